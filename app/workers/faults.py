"""What is wrong with the workers of a service."""

from typing import NamedTuple

from app.workers.team import Team, is_silent

NO_LEADER = "the worker that asks the registry and writes the log does not answer"


class Fault(NamedTuple):
    """What is wrong with a worker: a code for machines, and a sentence for people."""

    code: str
    text: str


def faults_of(team: Team) -> list[Fault]:
    """What is wrong with the workers, as far as this one knows. Nothing is asked or waited for."""
    if not team.leads:
        answers = team.leader is not None and not is_silent(team.leader)
        return [] if answers else [Fault(code="leader_silent", text=NO_LEADER)]
    members = list(team.members.values())
    told = [(member.index, text) for member in members for text in member.problems]
    faults = [Fault(code="worker_problem", text=f"worker {index}: {text}") for index, text in told]
    if silent := sum(member.is_silent for member in members):
        faults.append(Fault(code="worker_silent", text=f"{silent} of {team.size} workers hangs"))
    if (missing := team.size - 1 - sum(member.revision > 0 for member in members)) > 0:
        faults.append(Fault(code="worker_missing", text=f"{missing} of {team.size} workers serves nothing so far"))
    return faults
