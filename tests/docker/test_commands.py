"""Commands in the deployment files name options that swast, ray and mlflow really have."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
import typer

from orchestration.cli import app
from tests.docker.files import (
    COMPOSE,
    DOCKER,
    MACHINES,
    OVERLAYS,
    README,
    ROOT,
    code_blocks,
    documents,
    parse,
    resources,
    services,
    stages,
)

VARIABLE = re.compile(r"\$\{\w+:-([^}]*)\}")


def commands_of(text: str) -> Iterator[list[str]]:
    """The commands of a shell text, as words; substitutions and redirections stay as they are."""
    for line in text.replace("\\\n", " ").splitlines():
        if line and not line.startswith(("#", " ", "(", ")")):
            yield shlex.split(line, comments=True)


def after(words: list[str], *start: str) -> list[str] | None:
    """What follows the first place where ``start`` stands in ``words``, the last word of it included."""
    for number in range(len(words) - len(start) + 1):
        if words[number : number + len(start)] == list(start):
            return words[number + len(start) - 1 :]
    return None


def swast_commands() -> Iterator[tuple[str, list[str]]]:
    """Everything that is given to swast, by where it stands."""
    header = [line.removeprefix("#").strip() for line in COMPOSE.read_text().splitlines() if line.startswith("#  ")]
    texts = {"compose.yaml": "\n".join(header), "README.md": "\n".join(code_blocks())}
    texts |= {job["metadata"]["name"]: job["spec"]["entrypoint"] for job in resources("RayJob")}
    for where, text in texts.items():
        for words in commands_of(text):
            if words[:1] == ["swast"]:
                yield where, words[1:]
            elif found := after(words, "run", "--rm", "sweep"):
                yield where, found[1:]
            elif words[:2] == ["ray", "exec"]:
                yield where, (after(shlex.split(words[3]), ".venv/bin/swast") or [""])[1:]


@pytest.mark.parametrize(("where", "words"), list(swast_commands()), ids=lambda it: it if isinstance(it, str) else "")
def test_swast_knows_the_command(where: str, words: list[str]) -> None:
    given = parse(typer.main.get_command(app), words)
    if "file" in given:
        assert (ROOT / given["file"]).is_file(), f"{where}: there is no {given['file']}"
        assert given["output"].is_absolute(), f"{where}: say where the shared output folder is"


def test_commands_were_found_where_they_stand() -> None:
    assert {where for where, _ in swast_commands()} == {"compose.yaml", "README.md", "swast-quickstart"}
    assert len(list(swast_commands())) >= 5


def test_swast_refuses_an_option_it_does_not_have() -> None:
    with pytest.raises(Exception, match="No such option: --adress") as caught:
        parse(typer.main.get_command(app), ["run", "x.yaml", "--adress", "head:6379"])
    assert type(caught.value).__name__ == "NoSuchOption"


def ray_commands() -> Iterator[tuple[str, list[str]]]:
    for name, service in services().items():
        if service.get("command", [""])[0] == "ray":
            yield name, [VARIABLE.sub(r"\1", word) for word in service["command"]]
    machines = documents(MACHINES)[0]
    for line in machines["head_start_ray_commands"] + machines["worker_start_ray_commands"]:
        words = [word for word in shlex.split(line) if not re.match(r"\w+=", word)]
        yield "ray-cluster.yaml", words
    for script in (DOCKER / "image" / "join-ray.sh", DOCKER / "slurm" / "sweep.sbatch"):
        text = script.read_text().replace("\\\n", " ")
        for line in re.findall(r'^(?:srun .*?"\$bin/ray"|ray) (?:start|symmetric-run) .*$', text, re.MULTILINE):
            words = shlex.split(line.partition(" >/dev/null")[0].partition(" -- ")[0])
            yield script.name, ["ray", *(words[1:] if words[0] == "ray" else words[words.index("$bin/ray") + 1 :])]
    for words in commands_of("\n".join(code_blocks())):
        if words[0] == "ray":
            yield README.name, words


@pytest.mark.parametrize(("where", "words"), list(ray_commands()), ids=lambda it: it if isinstance(it, str) else "")
def test_ray_knows_the_command(where: str, words: list[str]) -> None:
    from ray.scripts.scripts import cli

    assert words[0].rpartition("/")[2] == "ray"
    if words[1] != "symmetric-run":
        parse(cli, words[1:])
        return
    words = [word.replace("${#nodes[@]}", "2") for word in words]
    own = parse(cli, words[1:])  # what it does not know goes to ray start, and there it is refused
    parse(cli, ["start", *own["ray_args_and_entrypoint"]])


def test_every_way_to_start_ray_was_found() -> None:
    where = {where for where, words in ray_commands() if words[1] in ("start", "symmetric-run")}
    assert where == {"head", "worker", "ray-cluster.yaml", "join-ray.sh", "sweep.sbatch"}


def test_mlflow_knows_its_servers_options() -> None:
    from mlflow.cli import server

    image = next(rest for step, rest in reversed(stages()["mlflow"]) if step == "CMD")
    for words in (shlex.split(image.strip("[]").replace(",", " ")), services(OVERLAYS[0])["mlflow"]["command"]):
        assert words[:2] == ["mlflow", "server"]
        parse(server, words[2:])
        assert words[words.index("--port") + 1] == "5000"


def test_mlflow_reads_the_settings_it_is_given() -> None:
    import mlflow.environment_variables as known
    from mlflow.cli import server

    ours = [services()["mlflow"]["environment"], services(OVERLAYS[0])["mlflow"]["environment"]]
    options = {option.envvar for option in server.params if isinstance(option, click.Option)}
    for name in (name for environment in ours for name in environment if name.startswith("MLFLOW_")):
        assert name in options or hasattr(known, name), name
