"""`params` of a scoring request that ask for something else than predictions, as `Booster.predict` names it.

MLflow's own server ignores the `params` of a LightGBM model. So do we, except for these two.
"""

from typing import Any, cast

import msgspec
import numpy as np

from app.codecs.rules import INVALID, FloatArray
from app.errors import BadRequest, FieldError, NotExplainable
from app.models.served import ServedModel
from app.serving.needs import PLAIN, Needs
from kernels.engine import Explanation

CONTRIBUTIONS, LEAVES = "pred_contrib", "pred_leaf"


class _Params(msgspec.Struct):
    params: Any = None


_PARAMS = msgspec.json.Decoder(_Params)


def needs_of(body: bytes | bytearray, served: ServedModel) -> Needs:
    """What a body in JSON asks for by its `params`; contributions if it asks for both, as in LightGBM.

    Raises:
        BadRequest: One of the two is neither true nor false.
        NotExplainable: The predictions of the model cannot be explained.
    """
    if b'"params"' not in body:  # most
        return PLAIN
    try:
        given = _PARAMS.decode(body).params
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return PLAIN  # whoever reads the rows says what is wrong
    if not isinstance(given, dict):
        return PLAIN
    params = cast(dict[str, object], given)
    wrong = [name for name in (CONTRIBUTIONS, LEAVES) if not isinstance(params.get(name, False), bool)]
    if wrong:
        raise BadRequest(INVALID, tuple(FieldError(f"params.{name}", "must be true or false") for name in wrong))
    if params.get(CONTRIBUTIONS):
        if served.engine.explainable is not None:
            raise NotExplainable(served.engine.explainable)
        return Needs(space="model")
    return Needs(leaves=bool(params.get(LEAVES)))


def contributions_of(explanation: Explanation) -> FloatArray:
    """Contributions in LightGBM's layout: float64[B, K * (F + 1)], of each output the features', then the base."""
    added = explanation.contributions
    bases = np.broadcast_to(explanation.base[:, None], (*added.shape[:2], 1))
    return np.concatenate([added, bases], axis=2).reshape(len(added), -1)
