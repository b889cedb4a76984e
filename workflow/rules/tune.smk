# A search for settings: `snakemake tune`. Its journal is not an output, so that a stopped search can continue.


rule tune:
    input:
        store=rules.merge.output.store,
        splits=rules.split.output.splits,
        code=variant_sources(settings.tune.variant, "runs/tune.py"),
    output:
        table=result("tune/tune.tsv"),
        best=result("tune/best.yaml"),
    log:
        result("logs/tune.log"),
    conda:
        "../envs/cvae_protein.yaml"
    threads: 1
    resources:
        gpu=min(1, GPUS),
    params:
        folder=subpath(output.table, parent=True),
        depth=settings.labels.depth,
        settings=as_json(settings.tune),
        model=as_json(settings.model),
        train=as_json(replace(settings.train, processes=1)),
    shell:
        "CVAE_PROTEIN_GPUS={resources.gpu} cvae-protein tune --store {input.store:q} --splits {input.splits:q}"
        " --depth {params.depth} --settings {params.settings:q} --model-settings {params.model:q} --train-settings {params.train:q}"
        " --output {params.folder:q} 2>&1 | tee {log:q} >&2"
