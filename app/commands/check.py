"""`madrone check`: whether a model can be served."""

import sys

import click

from app.commands.common import check_openmp, keep_kernels, model_address, settings_of_model


@click.command(short_help="Say whether a model can be served.")
@click.argument("model", callback=model_address)
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def check(model: str, as_json: bool) -> None:
    """Say whether MODEL can be served, why not, and what it takes and gives.

    MODEL is a file, a directory or an address, such as s3://bucket/model, runs:/ID/model or models:/churn@champion.
    The exit status is 0 if it can be served, 1 if not.
    """
    settings = settings_of_model(model)
    check_openmp()
    keep_kernels(settings)

    import msgspec

    from app.models.process.client import quiet_worker
    from app.models.verdict import describe_verdict, judge_model

    source = quiet_worker(settings)
    try:
        verdict = judge_model(settings, source)
    finally:
        source.close()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(verdict), indent=2))
    else:
        click.echo(describe_verdict(verdict, model))
    sys.exit(0 if verdict.servable else 1)
