"""Options in a file: what is written is what is read, and who comes first."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config_file import options_text
from model.train_arguments import parse_arguments
from model.train_config import TrainConfig

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    task=words,
    log_dir=st.none() | words,
    layers=st.lists(st.sampled_from(["lstm:3", "gru:4", "rnn:2:relu"]), min_size=1, max_size=3),
    rate=st.floats(1e-30, 1e9),
    seed=st.integers(0, 2**31 - 1),
    variational=st.booleans(),
)
def test_what_is_written_is_read_again(
    task: str, log_dir: str | None, layers: list[str], rate: float, seed: int, variational: bool
) -> None:
    config = TrainConfig(
        task=Path(task), log_dir=None if log_dir is None else Path(log_dir), layers=tuple(layers),
        learning_rate=rate, seed=seed, variational_dropout=variational,
    )  # fmt: skip
    assert TrainConfig.model_validate(tomllib.loads(options_text(config))) == config


def test_every_option_stands_below_its_meaning() -> None:
    lines = options_text(TrainConfig()).splitlines()
    for name, field in TrainConfig.model_fields.items():
        at = lines.index(f"# {field.description}")
        option = field.alias or name
        start = f"# {option} =" if field.default is None else f"{option} = "
        assert lines[at + 1].startswith(start)


def write(folder: Path, text: str) -> str:
    path = folder / "options.toml"
    path.write_text(text)
    return str(path)


def test_the_command_line_comes_before_the_file_and_the_file_before_the_defaults(
    tmp_path: Path,
) -> None:
    path = write(
        tmp_path, 'seed = 5\nbatch_size = 7\nlayers = ["gru:3"]\nvariational_dropout = false\n'
    )
    command = parse_arguments(["--batch-size", "9", "--config", path, "--resume"])
    assert command.config == TrainConfig(
        seed=5, batch_size=9, layers=("gru:3",), variational_dropout=False
    )
    assert command.config.model_fields_set == {
        "seed", "batch_size", "layers", "variational_dropout",
    }  # fmt: skip
    assert command.resume
    config = parse_arguments(["--config", path, "--variational-dropout", "--from", "m/x/3"]).config
    assert (config.variational_dropout, config.from_version) == (True, Path("m/x/3"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("batch_size = 0", "{}: batch_size: Input should be greater than or equal to 1, but got 0"),
        ("batch-size = 3", "--config: {}: there is no option 'batch-size'; there are data, "),
        ("layers = 'lstm:3'", "{}: layers: Input should be a valid tuple, but got 'lstm:3'"),
        ("layers = ['cnn:3']", "{}: layers: layer 'cnn:3': cell: "),
        ("from = 3", "{}: from: "),
        ("seed = ", "--config: {}: Invalid value"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, named: str
) -> None:
    path = write(tmp_path, text + "\n")
    with pytest.raises(SystemExit) as end:
        parse_arguments(["--config", path, "--updates", "3"])
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("python -m model.train: error: " + named.format(path))


def test_a_file_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--config", str(tmp_path / "none.toml")])
    assert f"'{tmp_path / 'none.toml'}'" in capsys.readouterr().err.splitlines()[-1]
