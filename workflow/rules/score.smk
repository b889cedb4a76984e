# Samples, reconstructions and held-out real domains, scored by the same metrics.


rule audit_leaks:
    input:
        store=rules.merge.output.store,
        splits=rules.split.output.splits,
        code=sources("dataset/leak_audit.py"),
    output:
        table=result("leak_audit.tsv"),
    log:
        result("logs/leak_audit.log"),
    conda:
        "../envs/cvae_protein.yaml"
    threads: 2
    shell:
        "OMP_NUM_THREADS=1 cvae-protein leak-audit --store {input.store:q} --splits {input.splits:q} --jobs {threads}"
        " --output {output.table:q} 2>&1 | tee {log:q} >&2"


rule score:
    input:
        store=rules.merge.output.store,
        splits=rules.split.output.splits,
        audit=rules.audit_leaks.output.table,
        samples=rules.sample.output.samples,
        raw=rules.sample.output.raw,
        reconstructions=rules.sample.output.reconstructions,
        latents=rules.sample.output.latents,
        features=rules.embed.output.samples,
        swapped=rules.embed.output.swapped,
        real_features=rules.embed_real.output.domains,
        code=sources("score/score.py"),
    output:
        scores=result("scores/{variant}/seed{seed}/scores.tsv"),
        structures=result("scores/{variant}/seed{seed}/structures.tsv"),
    log:
        result("logs/score/{variant}/seed{seed}.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        folder=subpath(output.scores, parent=True),
        samples=subpath(input.samples, parent=True),
        features=subpath(input.features, parent=True),
        settings=as_json(settings.score),
    shell:
        "cvae-protein score --store {input.store:q} --splits {input.splits:q}"
        " --audit {input.audit:q}"
        " --samples {params.samples:q} --variant {wildcards.variant} --model-seed {wildcards.seed}"
        " --features {params.features:q} --real-features {input.real_features:q}"
        " --settings {params.settings:q} --output {params.folder:q} 2>&1 | tee {log:q} >&2"


rule score_real:
    input:
        store=rules.merge.output.store,
        splits=rules.split.output.splits,
        real_features=rules.embed_real.output.domains,
        code=sources("score/score.py"),
    output:
        scores=result("scores/real/scores.tsv"),
        structures=result("scores/real/structures.tsv"),
    log:
        result("logs/score/real.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        folder=subpath(output.scores, parent=True),
        per_class=settings.sample.per_class,
        settings=as_json(settings.score),
    shell:
        "cvae-protein score --real --store {input.store:q} --splits {input.splits:q}"
        " --real-features {input.real_features:q} --per-class {params.per_class:q}"
        " --settings {params.settings:q} --output {params.folder:q} 2>&1 | tee {log:q} >&2"


rule collect:
    input:
        tables=[
            rules.score_real.output.scores,
            *expand(rules.score.output.scores, variant=MODELS, seed=settings.seeds),
        ],
        code=sources("score/collect.py"),
    output:
        scores=report(
            result("scores.tsv"), caption="../report/scores.rst", category="Scores"
        ),
    log:
        result("logs/collect.log"),
    conda:
        "../envs/cvae_protein.yaml"
    shell:
        "cvae-protein collect {input.tables:q} --output {output.scores:q} 2>&1 | tee {log:q} >&2"
