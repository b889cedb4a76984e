# Verdicts on what is broken in a model, and the report page of a run.


rule judge:
    input:
        scores=rules.collect.output.scores,
        code=sources("score/verdicts.py"),
    output:
        table=report(
            result("verdicts.tsv"), caption="../report/verdicts.rst", category="Scores"
        ),
    log:
        result("logs/verdicts.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        settings=as_json(replace(settings.verdict, fail_run=False)),
    shell:
        "cvae-protein verdicts --scores {input.scores:q} --settings {params.settings:q}"
        " --output {output.table:q} 2>&1 | tee {log:q} >&2"


rule report:
    input:
        scores=rules.collect.output.scores,
        verdicts=rules.judge.output.table,
        splits=rules.split.output.splits,
        audit=rules.audit_leaks.output.table,
        names=rules.name_folds.output.names,
        rejected=rules.merge.output.rejected,
        store=rules.merge.output.store,
        classifier=rules.train_classifier.output.checks,
        confusion=rules.train_classifier.output.confusion,
        real=rules.score_real.output.structures,
        structures=expand(
            rules.score.output.structures, variant=MODELS, seed=settings.seeds
        ),
        histories=expand(
            rules.train.output.history, variant=MODELS, seed=settings.seeds
        ),
        samples=expand(rules.sample.output.samples, variant=MODELS, seed=settings.seeds),
        code=sources("report/page.py"),
        vendored=package_data("report"),
    output:
        page=report(
            result("report.html"), caption="../report/page.rst", category="Report"
        ),
    log:
        result("logs/report.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        results=subpath(output.page, parent=True),
        variants=",".join(MODELS),
        seeds=",".join(map(str, settings.seeds)),
        settings=as_json(settings.report),
    shell:
        "cvae-protein report --results {params.results:q} --variants {params.variants} --seeds {params.seeds}"
        " --settings {params.settings:q} --output {output.page:q} 2>&1 | tee {log:q} >&2"


rule check_verdicts:
    input:
        scores=rules.collect.output.scores,
        verdicts=rules.judge.output.table,
        page=rules.report.output.page,
        code=sources("score/verdicts.py"),
    output:
        passed=result("verdicts_passed.tsv"),
    log:
        result("logs/pass_verdicts.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        settings=as_json(settings.verdict),
    shell:
        "cvae-protein verdicts --scores {input.scores:q} --settings {params.settings:q} --fail-on-verdict"
        " --output {output.passed:q} 2>&1 | tee {log:q} >&2"
