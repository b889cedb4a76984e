# From the domain table to the store of backbones and its splits.


rule select:
    input:
        table=settings.labels.table,
        others=[
            path
            for path in (
                settings.labels.boundaries,
                settings.labels.include,
                settings.labels.superfamilies,
            )
            if path
        ],
        code=sources("dataset/select.py"),
    output:
        domains=result("domains.tsv"),
        rejected=result("rejected/select.tsv"),
    log:
        result("logs/select.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        settings=as_json(nameless(settings.labels)),
    shell:
        "cvae-protein select --settings {params.settings:q}"
        " --output {output.domains:q} --rejected {output.rejected:q} 2>&1 | tee {log:q} >&2"


rule name_folds:
    input:
        domains=rules.select.output.domains,
        names=settings.labels.names or [],
        table=settings.labels.table if settings.labels.scheme == "own" else [],
        code=sources("dataset/select.py"),
    output:
        names=result("fold_names.tsv"),
    log:
        result("logs/fold_names.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        settings=as_json(settings.labels),
    shell:
        "cvae-protein fold-names --domains {input.domains:q} --settings {params.settings:q}"
        " --output {output.names:q} 2>&1 | tee {log:q} >&2"


rule fetch:
    input:
        domains=rules.select.output.domains,
        locked=settings.fetch.locked or [],
        code=sources("dataset/fetch/fetch.py"),
    output:
        entries=result("entries.tsv"),
        lock=result("sources.lock.tsv"),
        rejected=result("rejected/fetch.tsv"),
    log:
        result("logs/fetch.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        settings=as_json(settings.fetch),
    shell:
        "cvae-protein fetch --domains {input.domains:q} --settings {params.settings:q}"
        " --output {output.entries:q} --lock {output.lock:q} --rejected {output.rejected:q} 2>&1 | tee {log:q} >&2"


rule featurize:
    input:
        domains=rules.select.output.domains,
        entries=rules.fetch.output.entries,
        code=sources("dataset/featurize.py"),
    output:
        shard=result("shards/{batch}.h5"),
        rejected=result("rejected/batch{batch}.tsv"),
    log:
        result("logs/featurize/{batch}.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        batch=lambda wildcards: f"{wildcards.batch}/{len(BATCHES)}",
        settings=as_json(settings.featurize),
        labels=as_json(nameless(settings.labels)),
    shell:
        "cvae-protein featurize --domains {input.domains:q} --entries {input.entries:q} --batch {params.batch}"
        " --settings {params.settings:q} --label-settings {params.labels:q}"
        " --output {output.shard:q} --rejected {output.rejected:q} 2>&1 | tee {log:q} >&2"


rule merge:
    input:
        rejected=[
            rules.select.output.rejected,
            rules.fetch.output.rejected,
            *expand(rules.featurize.output.rejected, batch=BATCHES),
        ],
        shards=expand(rules.featurize.output.shard, batch=BATCHES),
        code=sources("store/write.py"),
    output:
        store=result("domains.h5"),
        rejected=result("rejected.tsv"),
    log:
        result("logs/merge.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        settings=as_json(settings.featurize),
    shell:
        "cvae-protein merge {input.shards:q} {input.rejected:q} --settings {params.settings:q}"
        " --output {output.store:q} --rejected {output.rejected:q} 2>&1 | tee {log:q} >&2"


rule cluster:
    input:
        store=rules.merge.output.store,
        code=sources("dataset/cluster.py"),
    output:
        clusters=result("clusters.tsv"),
    log:
        result("logs/cluster.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        settings=as_json(settings.cluster),
        scheme=settings.labels.scheme,
    shell:
        "cvae-protein cluster --store {input.store:q} --settings {params.settings:q} --scheme {params.scheme}"
        " --output {output.clusters:q} 2>&1 | tee {log:q} >&2"


rule split:
    input:
        store=rules.merge.output.store,
        clusters=rules.cluster.output.clusters,
        frozen=settings.split.file or [],
        code=sources("dataset/split.py"),
    output:
        splits=result("splits.tsv"),
    log:
        result("logs/split.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        settings=as_json(settings.split),
        labels=as_json(nameless(settings.labels)),
    shell:
        "cvae-protein split --store {input.store:q} --clusters {input.clusters:q}"
        " --settings {params.settings:q} --label-settings {params.labels:q}"
        " --output {output.splits:q} 2>&1 | tee {log:q} >&2"
