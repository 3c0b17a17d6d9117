"""MODEL_NAMES: names with selections of their own, and one message for each thing that is wrong."""

import re

import pytest

from app.config.selection import KEYS, MOST_MODELS, TAKEN
from app.config.settings import Settings, SettingsError

TAKEN_NAMES = ", ".join(sorted(TAKEN))


def chosen(text: str, **environ: str) -> tuple[Settings, ...]:
    return Settings.from_environ({"MODEL_NAMES": text, **environ}).models


def test_without_it_there_is_one_model() -> None:
    settings = Settings.from_environ({"MODEL_NAME": "houses"})
    assert settings.models == (settings,)


def test_each_model_has_its_own_selection_and_else_that_of_the_settings() -> None:
    text = "prices, churn?alias=champion,risk?stage=Staging&canary_alias=next&canary_percent=10&min_r2=0.7&output=raw"
    prices, churn, risk = chosen(text, MODEL_CANARY_PERCENT="2", MODEL_SHADOW_ALIAS="rival", API_KEY="sesame")
    assert [one.model_name for one in (prices, churn, risk)] == ["prices", "churn", "risk"]
    assert (prices.model_alias, prices.model_canary_percent, prices.model_output) == (None, 2, "auto")
    assert (churn.model_alias, churn.model_shadow_alias) == ("champion", "rival")
    assert (risk.model_stage, risk.model_canary_alias, risk.model_canary_percent) == ("Staging", "next", 10)
    assert (risk.model_min_r2, risk.model_output, risk.api_key, risk.model_names) == (0.7, "raw", "sesame", None)


def test_a_stage_puts_the_alias_of_the_settings_out_of_force() -> None:
    first, second, third = chosen("a,b?stage=Staging,c?stage=Staging&alias=own", MODEL_ALIAS="all")
    assert (first.model_alias, second.model_alias, third.model_alias) == ("all", None, "own")


def test_signs_are_percent_encoded() -> None:
    first, second = chosen("a%2Cb%3F%25,c%20d?alias=x%26y%20z")
    assert (first.model_name, second.model_name, second.model_alias) == ("a,b?%", "c d", "x&y z")


def test_the_first_is_the_model_of_commands() -> None:
    assert Settings.from_environ({"MODEL_NAMES": "b,a"}).model_name == "b"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,,b", "model '': its name must have 1 to 256 characters"),
        ("a," + "b" * 257, f"model '{'b' * 80}': its name must have 1 to 256 characters"),
        ("a,b,a", "model 'a': it must be named once"),
        ("a/b", "model 'a/b': its name must be one that MLflow takes, without / and :"),
        ("..", "model '..': its name must be one that MLflow takes, without / and :"),
        ("a%zz", "model 'a%zz': its name must have % written as %25"),
        ("a?ttl=3", f"model 'a': 'ttl' must be one of {', '.join(KEYS)}"),
        ("a?alias", "model 'a': alias must be 1 to 256 characters, got ''"),
        ("a?alias=b&alias=c", "model 'a': alias must be given once"),
        ("a?stage=Prod", "model 'a': stage must be one of Archived, None, Production, Staging, got 'Prod'"),
        ("a?canary_percent=101", "model 'a': canary_percent must be a number from 0 up to 100, got '101'"),
        ("a?min_r2=%", "model 'a': min_r2 must be a number from -1 up to 1, got '%'"),
        *[(name, f"model '{name}': its name must be none of {TAKEN_NAMES}, which") for name in sorted(TAKEN)],
    ],
)  # fmt: skip
def test_bad_text_is_named_with_model_and_key(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"^MODEL_NAMES: {re.escape(problem)}"):
        chosen(text)


def test_there_are_so_many_models_at_most() -> None:
    names = [f"model-{number}" for number in range(MOST_MODELS + 1)]
    assert len(chosen(",".join(names[:-1]))) == MOST_MODELS
    with pytest.raises(SettingsError, match=f"^MODEL_NAMES: must name at most {MOST_MODELS} models, got 101$"):
        chosen(",".join(names))


@pytest.mark.parametrize("other", ["MODEL_NAME", "MODEL_PATH"])
def test_it_excludes_what_names_one_model(other: str) -> None:
    with pytest.raises(SettingsError, match=f"^MODEL_NAMES: must not be set together with {other}, which names one"):
        chosen("a,b", **{other: "model.txt"})
