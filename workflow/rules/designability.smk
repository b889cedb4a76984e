# On request: sequences designed for backbones, and their structures. `snakemake designability` (make install-designer).


rule design:
    input:
        samples=rules.sample.output.samples,
        code=sources(
            "score/designability.py",
            "designability/proteinmpnn.py",
            "designability/esmfold.py",
        ),
    output:
        scores=result("designs/{variant}/seed{seed}/scores.tsv"),
        designs=result("designs/{variant}/seed{seed}/designs.tsv"),
    log:
        result("logs/designs/{variant}/seed{seed}.log"),
    conda:
        "../envs/cvae_protein.yaml"
    threads: 1
    resources:
        gpu=min(1, GPUS),
    params:
        folder=subpath(output.scores, parent=True),
        cache=result("designs/kept"),
        settings=as_json(settings.design),
    shell:
        "CVAE_PROTEIN_GPUS={resources.gpu} cvae-protein designability --samples {input.samples:q}"
        " --variant {wildcards.variant} --model-seed {wildcards.seed} --cache {params.cache:q}"
        " --settings {params.settings:q} --output {params.folder:q} 2>&1 | tee {log:q} >&2"


rule design_real:
    input:
        store=rules.merge.output.store,
        splits=rules.split.output.splits,
        code=sources(
            "score/designability.py",
            "designability/proteinmpnn.py",
            "designability/esmfold.py",
        ),
    output:
        scores=result("designs/real/scores.tsv"),
        designs=result("designs/real/designs.tsv"),
    log:
        result("logs/designs/real.log"),
    conda:
        "../envs/cvae_protein.yaml"
    threads: 1
    resources:
        gpu=min(1, GPUS),
    params:
        folder=subpath(output.scores, parent=True),
        cache=result("designs/kept"),
        settings=as_json(settings.design),
    shell:
        "CVAE_PROTEIN_GPUS={resources.gpu} cvae-protein designability --samples {input.store:q} --splits {input.splits:q}"
        " --cache {params.cache:q} --settings {params.settings:q} --output {params.folder:q} 2>&1 | tee {log:q} >&2"


rule designability:
    input:
        tables=[
            rules.design_real.output.scores,
            *expand(rules.design.output.scores, variant=MODELS, seed=settings.seeds),
        ],
        code=sources("score/collect.py"),
    output:
        scores=result("designability.tsv"),
    log:
        result("logs/designability.log"),
    conda:
        "../envs/cvae_protein.yaml"
    shell:
        "cvae-protein collect {input.tables:q} --output {output.scores:q} 2>&1 | tee {log:q} >&2"
