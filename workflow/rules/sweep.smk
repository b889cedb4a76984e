# A grid of settings: `snakemake sweep`. Each point has its own folder; store, split, audit and second level are shared.
# The baseline is not trained in steps, so it is left out if only training settings differ.
SWEPT_MODELS = (
    settings.variants
    if all(key.startswith("train.") for key in settings.sweep)
    else MODELS
)


wildcard_constraints:
    point=r"[^/]+=[^/]+",


use rule train as train_point with:
    input:
        store=rules.merge.output.store,
        splits=rules.split.output.splits,
        shared=shared_training(point_result),
        code=lambda wildcards: [
            *variant_sources(wildcards.variant, "training/train.py"),
            *start_files(
                start_of_variant(wildcards.variant, POINTS[wildcards.point].train)
            ),
        ],
    output:
        spec=point_result("models/{variant}/seed{seed}/spec.json"),
        weights=point_result("models/{variant}/seed{seed}/weights.safetensors"),
        history=point_result("models/{variant}/seed{seed}/history.tsv"),
    log:
        point_result("logs/train/{variant}/seed{seed}.log"),
    params:
        folder=subpath(output.spec, parent=True),
        checkpoint=point_result("checkpoints/{variant}/seed{seed}.safetensors"),
        shared=shared_option,
        record=record_of,
        depth=settings.labels.depth,
        train=lambda wildcards: told_to_variant(
            wildcards.variant, POINTS[wildcards.point].train
        ),
        model=of_point("model"),


use rule sample as sample_point with:
    input:
        store=rules.merge.output.store,
        splits=rules.split.output.splits,
        model=rules.train_point.output.spec,
        weights=rules.train_point.output.weights,
        refiner=rules.train_second_level.output.spec,
        refiner_weights=rules.train_second_level.output.weights,
        code=lambda wildcards: variant_sources(
            wildcards.variant, "sampling/sample.py", "io/write.py"
        ),
    output:
        samples=point_result("samples/{variant}/seed{seed}/samples.h5"),
        raw=point_result("samples/{variant}/seed{seed}/raw.h5"),
        reconstructions=point_result("samples/{variant}/seed{seed}/reconstructions.h5"),
        swapped=point_result("samples/{variant}/seed{seed}/swapped.h5"),
        latents=point_result("samples/{variant}/seed{seed}/latents.h5"),
    log:
        point_result("logs/sample/{variant}/seed{seed}.log"),
    params:
        folder=subpath(output.samples, parent=True),
        model=subpath(input.model, parent=True),
        refiner=subpath(input.refiner, parent=True),
        record=record_of,
        settings=of_point("sample"),
        drawn=[],


use rule embed as embed_point with:
    input:
        samples=rules.sample_point.output.samples,
        reconstructions=rules.sample_point.output.reconstructions,
        swapped=rules.sample_point.output.swapped,
        spec=rules.train_classifier.output.spec,
        weights=rules.train_classifier.output.weights,
        code=sources("model/fold_classifier.py"),
    output:
        samples=point_result("features/{variant}/seed{seed}/samples.h5"),
        reconstructions=point_result("features/{variant}/seed{seed}/reconstructions.h5"),
        swapped=point_result("features/{variant}/seed{seed}/swapped.h5"),
    log:
        point_result("logs/embed/{variant}/seed{seed}.log"),
    params:
        folder=subpath(output.samples, parent=True),
        classifier=subpath(input.spec, parent=True),


use rule score as score_point with:
    input:
        store=rules.merge.output.store,
        splits=rules.split.output.splits,
        audit=rules.audit_leaks.output.table,
        samples=rules.sample_point.output.samples,
        raw=rules.sample_point.output.raw,
        reconstructions=rules.sample_point.output.reconstructions,
        latents=rules.sample_point.output.latents,
        features=rules.embed_point.output.samples,
        swapped=rules.embed_point.output.swapped,
        real_features=rules.embed_real.output.domains,
        code=sources("score/score.py"),
    output:
        scores=point_result("scores/{variant}/seed{seed}/scores.tsv"),
        structures=point_result("scores/{variant}/seed{seed}/structures.tsv"),
    log:
        point_result("logs/score/{variant}/seed{seed}.log"),
    params:
        folder=subpath(output.scores, parent=True),
        samples=subpath(input.samples, parent=True),
        features=subpath(input.features, parent=True),
        settings=as_json(settings.score),


rule sweep:
    input:
        tables=expand(
            rules.score_point.output.scores,
            point=POINTS,
            variant=SWEPT_MODELS,
            seed=settings.seeds,
        ),
        code=sources("score/collect.py"),
    output:
        table=result("sweep.tsv"),
    log:
        result("logs/sweep.log"),
    conda:
        "../envs/cvae_protein.yaml"
    shell:
        "cvae-protein sweep {input.tables:q} --output {output.table:q} 2>&1 | tee {log:q} >&2"
