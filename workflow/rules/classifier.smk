# The run's fold classifier, and its features and probabilities for domains and model outputs.


rule train_classifier:
    input:
        store=rules.merge.output.store,
        splits=rules.split.output.splits,
        code=sources("training/fold_classifier.py"),
        start=start_files(settings.judge.start),
    output:
        spec=result("models/classifier/spec.json"),
        weights=result("models/classifier/weights.safetensors"),
        history=result("models/classifier/history.tsv"),
        checks=result("models/classifier/classifier.tsv"),
        confusion=result("models/classifier/confusion.tsv"),
    log:
        result("logs/train_classifier.log"),
    conda:
        "../envs/cvae_protein.yaml"
    threads: 1
    params:
        folder=subpath(output.spec, parent=True),
        checkpoint=result("checkpoints/classifier.safetensors"),
        settings=as_json(settings.judge),
    shell:
        "cvae-protein train-classifier --store {input.store:q} --splits {input.splits:q}"
        " --settings {params.settings:q} --checkpoint {params.checkpoint:q}"
        " --output {params.folder:q} 2>&1 | tee {log:q} >&2"


rule embed_real:
    input:
        store=rules.merge.output.store,
        spec=rules.train_classifier.output.spec,
        weights=rules.train_classifier.output.weights,
        code=sources("model/fold_classifier.py"),
    output:
        domains=result("features/real/domains.h5"),
    log:
        result("logs/embed/real.log"),
    conda:
        "../envs/cvae_protein.yaml"
    threads: 1
    params:
        folder=subpath(output.domains, parent=True),
        classifier=subpath(input.spec, parent=True),
    shell:
        "cvae-protein embed {input.store:q} --classifier {params.classifier:q}"
        " --output {params.folder:q} 2>&1 | tee {log:q} >&2"


rule embed:
    input:
        samples=rules.sample.output.samples,
        reconstructions=rules.sample.output.reconstructions,
        swapped=rules.sample.output.swapped,
        spec=rules.train_classifier.output.spec,
        weights=rules.train_classifier.output.weights,
        code=sources("model/fold_classifier.py"),
    output:
        samples=result("features/{variant}/seed{seed}/samples.h5"),
        reconstructions=result("features/{variant}/seed{seed}/reconstructions.h5"),
        swapped=result("features/{variant}/seed{seed}/swapped.h5"),
    log:
        result("logs/embed/{variant}/seed{seed}.log"),
    conda:
        "../envs/cvae_protein.yaml"
    threads: 1
    params:
        folder=subpath(output.samples, parent=True),
        classifier=subpath(input.spec, parent=True),
    shell:
        "cvae-protein embed {input.samples:q} {input.reconstructions:q} {input.swapped:q}"
        " --classifier {params.classifier:q} --output {params.folder:q} 2>&1 | tee {log:q} >&2"
