# Training and sampling. Checkpoints are not declared outputs, so that an interrupted training can be resumed.
# With `train.processes` above 1, a training runs as that many processes, which share every batch. Their number is a
# resource because it does not affect the result: changing it reruns nothing. GPUs are requested only if the run counts
# them: `--resources gpu=N`, as in the default profile; on a cluster, its profile sets what a training gets.

PROCESSES = settings.train.processes
LAUNCHER = f"cvae-protein launch --processes {PROCESSES}" if PROCESSES > 1 else ""
GPUS = PROCESSES if counted("gpu") else 0
# Jobs that draw a model's samples; a single one would save nothing, so the rule `sample` then draws them itself.
DRAWS = range(settings.sample.batches) if settings.sample.batches > 1 else []


rule train_second_level:
    input:
        store=rules.merge.output.store,
        splits=rules.split.output.splits,
        code=sources("training/train.py"),
        start=start_files(OF_SECOND_LEVEL.start),
    output:
        spec=result("models", SECOND_LEVEL, "seed{seed}/spec.json"),
        weights=result("models", SECOND_LEVEL, "seed{seed}/weights.safetensors"),
        history=result("models", SECOND_LEVEL, "seed{seed}/history.tsv"),
    log:
        result("logs/train", SECOND_LEVEL, "seed{seed}.log"),
    priority: 10  # the longest training; others run in parallel
    conda:
        "../envs/cvae_protein.yaml"
    threads: PROCESSES
    resources:
        gpu=GPUS,
        processes=PROCESSES,
        launcher=LAUNCHER,
    params:
        folder=subpath(output.spec, parent=True),
        checkpoint=result("checkpoints", SECOND_LEVEL, "seed{seed}.safetensors"),
        name=SECOND_LEVEL,
        told=told_to_second_level(),
    shell:
        "CVAE_PROTEIN_GPUS={resources.gpu} OMP_NUM_THREADS=$((({threads} + {resources.processes} - 1) / {resources.processes}))"
        " {resources.launcher} cvae-protein train --variant {params.name:q} --seed {wildcards.seed}"
        " --store {input.store:q} --splits {input.splits:q} {params.told:q}"
        " --checkpoint {params.checkpoint:q} --output {params.folder:q} 2>&1 | tee {log:q} >&2"


rule train:
    input:
        store=rules.merge.output.store,
        splits=rules.split.output.splits,
        shared=shared_training(result),
        code=lambda wildcards: [
            *variant_sources(wildcards.variant, "training/train.py"),
            *start_files(start_of_variant(wildcards.variant, settings.train)),
        ],
    output:
        spec=result("models/{variant}/seed{seed}/spec.json"),
        weights=result("models/{variant}/seed{seed}/weights.safetensors"),
        history=result("models/{variant}/seed{seed}/history.tsv"),
    log:
        result("logs/train/{variant}/seed{seed}.log"),
    wildcard_constraints:
        variant=r"(?!refiner|decoder)[a-z][a-z0-9_]*",
    conda:
        "../envs/cvae_protein.yaml"
    threads: PROCESSES
    resources:
        gpu=GPUS,
        processes=PROCESSES,
        launcher=LAUNCHER,
    params:
        folder=subpath(output.spec, parent=True),
        checkpoint=result("checkpoints/{variant}/seed{seed}.safetensors"),
        shared=shared_option,
        record=record_of,
        depth=settings.labels.depth,
        train=lambda wildcards: told_to_variant(wildcards.variant, settings.train),
        model=as_json(settings.model),
    shell:
        "CVAE_PROTEIN_GPUS={resources.gpu} OMP_NUM_THREADS=$((({threads} + {resources.processes} - 1) / {resources.processes}))"
        " {resources.launcher} cvae-protein train --variant {wildcards.variant} --seed {wildcards.seed}"
        " --store {input.store:q} --splits {input.splits:q} --depth {params.depth}"
        " --settings {params.train:q} --model-settings {params.model:q}"
        " --checkpoint {params.checkpoint:q} {params.shared:q} --output {params.folder:q} 2>&1 | tee {log:q} >&2"


rule draw:
    input:
        model=rules.train.output.spec,
        weights=rules.train.output.weights,
        refiner=rules.train_second_level.output.spec,
        refiner_weights=rules.train_second_level.output.weights,
        code=lambda wildcards: variant_sources(wildcards.variant, "sampling/sample.py"),
    output:
        samples=temp(result("draws/{variant}/seed{seed}/{batch}/samples.h5")),
        raw=temp(result("draws/{variant}/seed{seed}/{batch}/raw.h5")),
    log:
        result("logs/draw/{variant}/seed{seed}/{batch}.log"),
    conda:
        "../envs/cvae_protein.yaml"
    threads: 1
    params:
        folder=subpath(output.samples, parent=True),
        model=subpath(input.model, parent=True),
        refiner=subpath(input.refiner, parent=True),
        record=record_of,
        settings=as_json(replace(settings.sample, batches=1)),
        depth=settings.labels.depth,
        batch=lambda wildcards: f"{wildcards.batch}/{settings.sample.batches}",
    shell:
        "cvae-protein sample --model {params.model:q} --refiner {params.refiner:q} --seed {wildcards.seed}"
        " --settings {params.settings:q} --depth {params.depth} --batch {params.batch}"
        " --output {params.folder:q} 2>&1 | tee {log:q} >&2"


rule sample:
    input:
        drawn=expand(
            rules.draw.output.samples,
            batch=DRAWS,
            allow_missing=True,
        ),
        drawn_raw=expand(rules.draw.output.raw, batch=DRAWS, allow_missing=True),
        store=rules.merge.output.store,
        splits=rules.split.output.splits,
        model=rules.train.output.spec,
        weights=rules.train.output.weights,
        refiner=rules.train_second_level.output.spec,
        refiner_weights=rules.train_second_level.output.weights,
        code=lambda wildcards: variant_sources(
            wildcards.variant, "sampling/sample.py", "io/write.py"
        ),
    output:
        samples=result("samples/{variant}/seed{seed}/samples.h5"),
        raw=result("samples/{variant}/seed{seed}/raw.h5"),
        reconstructions=result("samples/{variant}/seed{seed}/reconstructions.h5"),
        swapped=result("samples/{variant}/seed{seed}/swapped.h5"),
        latents=result("samples/{variant}/seed{seed}/latents.h5"),
    log:
        result("logs/sample/{variant}/seed{seed}.log"),
    conda:
        "../envs/cvae_protein.yaml"
    threads: 1
    params:
        folder=subpath(output.samples, parent=True),
        model=subpath(input.model, parent=True),
        refiner=subpath(input.refiner, parent=True),
        record=record_of,
        settings=as_json(replace(settings.sample, batches=1)),
        depth=settings.labels.depth,
        drawn=lambda wildcards, input: [
            f"--drawn={Path(path).parent}" for path in input.drawn
        ],
    shell:
        "cvae-protein sample --model {params.model:q} --refiner {params.refiner:q} --seed {wildcards.seed}"
        " --store {input.store:q} --splits {input.splits:q} --settings {params.settings:q} --depth {params.depth}"
        " {params.drawn:q} --output {params.folder:q} 2>&1 | tee {log:q} >&2"
