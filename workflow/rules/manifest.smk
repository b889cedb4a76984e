# Provenance of the run: settings, versions, hashes, and time and memory of each job.


rule write_manifest:
    input:
        page=rules.report.output.page,
        code=sources("runs/manifest.py"),
    output:
        manifest=report(
            result("ro-crate-metadata.json"),
            caption="../report/manifest.rst",
            category="Report",
        ),
    log:
        result("logs/manifest.log"),
    conda:
        "../envs/cvae_protein.yaml"
    params:
        results=subpath(output.manifest, parent=True),
        settings=as_json(settings),
        workflow=nearest(HERE),
    shell:
        "cvae-protein manifest --results {params.results:q} --config {params.settings:q} --workflow {params.workflow:q}"
        " --output {output.manifest:q} 2>&1 | tee {log:q} >&2"
