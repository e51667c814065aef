"""The small parts of the process session: URIs, metrics, artefacts, environments, listings."""

import contextlib
import io
import tarfile
from datetime import UTC, datetime

import pytest

from sm_launch import images
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.sessions.process import artefacts, environment, uris
from sm_launch.sessions.process.base import described, page, require_command
from sm_launch.sessions.process.jobs.metrics import MetricScan
from sm_launch.sessions.process.runs import shorten, transition


class TestUris:
    def test_a_file_uri_is_decoded(self, tmp_path):
        directory = tmp_path / "with space é"
        assert uris.to_path(directory.as_uri(), "field") == directory
        assert str(uris.to_path("file://localhost/a/b", "field")) == "/a/b"

    @pytest.mark.parametrize("uri", ["s3://bucket/key", "/plain/path", "file://host/a", "file:a"])
    def test_anything_else_is_refused_with_field_and_fix(self, uri):
        with pytest.raises(UserInputError) as caught:
            uris.to_path(uri, "OutputDataConfig.S3OutputPath")
        assert caught.value.field == "OutputDataConfig.S3OutputPath"
        assert caught.value.value == uri
        assert caught.value.fix

    def test_join_has_single_slashes(self):
        assert uris.join("file:///a/", "b", "c/") == "file:///a/b/c/"


class TestMetrics:
    DEFINITIONS = (
        {"Name": "loss", "Regex": r"'loss': '?([0-9.eE+-]+)"},
        {"Name": "no-group", "Regex": "step"},
        {"Name": "no-number", "Regex": "name=(\\w+)"},
    )

    def test_the_last_number_counts(self, tmp_path):
        log = tmp_path / "log.txt"
        log.write_bytes(
            b"{'loss': '5.8'}\rstep {'loss': '2e-1'} {'loss': 0.1}\nname=x \xff\n{'loss': 'nan'}\n"
        )
        metrics = MetricScan(log, list(self.DEFINITIONS)).final_metrics()
        assert [(metric["MetricName"], metric["Value"]) for metric in metrics] == [("loss", 0.1)]

    def test_a_growing_log_is_read_on(self, tmp_path):
        log = tmp_path / "log.txt"
        scan = MetricScan(log, [{"Name": "loss", "Regex": r"loss=([0-9.]+)\b"}])
        assert scan.final_metrics() == []
        values = []
        for text in ("loss=1.5\nlos", "s=0.2", "5\nend\n", "loss=0.125"):
            with log.open("a") as stream:
                stream.write(text)
            values.append(scan.final_metrics()[0]["Value"])
        assert values == [1.5, 0.2, 0.25, 0.125]


class TestArtefacts:
    def test_a_linked_tree_protects_what_it_shows(self, tmp_path):
        source = tmp_path / "source"
        (source / "inner").mkdir(parents=True)
        (source / "inner" / "a.txt").write_text("a")
        artefacts.link_tree(source, tmp_path / "linked")
        assert (tmp_path / "linked/inner/a.txt").read_text() == "a"
        (tmp_path / "linked/inner/new.txt").write_text("new")
        (tmp_path / "linked/inner/a.txt").unlink()
        assert [path.name for path in (source / "inner").iterdir()] == ["a.txt"]

    def test_a_single_file_becomes_a_channel(self, tmp_path):
        (tmp_path / "train.csv").write_text("x")
        artefacts.link_tree(tmp_path / "train.csv", tmp_path / "linked")
        assert (tmp_path / "linked/train.csv").read_text() == "x"

    def test_packing_and_unpacking_gives_the_same(self, tmp_path):
        (tmp_path / "model/sub").mkdir(parents=True)
        (tmp_path / "model/sub/w.bin").write_bytes(b"\0" * 1000)
        artefacts.pack(tmp_path / "model", tmp_path / "out/model.tar.gz")
        artefacts.unpack(tmp_path / "out/model.tar.gz", tmp_path / "again")
        assert (tmp_path / "again/sub/w.bin").read_bytes() == b"\0" * 1000
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.tar.gz"]

    def test_a_failed_packing_leaves_the_old_archive(self, tmp_path):
        archive = tmp_path / "model.tar.gz"
        archive.write_bytes(b"old")
        with pytest.raises(OSError, match="missing"):
            artefacts.pack(tmp_path / "missing", archive)
        assert archive.read_bytes() == b"old"
        assert [path.name for path in tmp_path.iterdir()] == ["model.tar.gz"]

    @pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "link"])
    def test_an_archive_cannot_reach_out(self, tmp_path, name):
        with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
            member = tarfile.TarInfo(name)
            if name == "link":
                member.type, member.linkname = tarfile.SYMTYPE, "../../etc/passwd"
            tar.addfile(member, io.BytesIO())
        target = tmp_path / "inside" / "model"
        with contextlib.suppress(tarfile.TarError):
            artefacts.unpack(tmp_path / "evil.tar.gz", target)
        assert not (tmp_path / "inside" / "evil").exists()
        assert not any(path.is_symlink() for path in target.iterdir())

    def test_read_only_does_not_follow_links(self, tmp_path):
        (tmp_path / "own.txt").write_text("x")
        (tmp_path / "model").mkdir()
        (tmp_path / "model/link").symlink_to(tmp_path / "own.txt")
        (tmp_path / "model/file").write_text("x")
        before = (tmp_path / "own.txt").stat().st_mode
        artefacts.make_read_only(tmp_path / "model")
        assert (tmp_path / "own.txt").stat().st_mode == before
        assert (tmp_path / "model/file").stat().st_mode & 0o777 == 0o444
        (tmp_path / "model").chmod(0o755)

    def test_last_lines_are_whole(self, tmp_path):
        log = tmp_path / "log.txt"
        assert artefacts.last_lines(log, 10) == ""
        log.write_text("first line\nsecond\nthird\n")
        assert artefacts.last_lines(log, 14) == "second\nthird"
        assert artefacts.last_lines(log, 1000) == "first line\nsecond\nthird"


class TestEnvironment:
    def test_only_facts_about_the_machine_are_kept(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AWS_PROFILE", "work")
        monkeypatch.setenv("PYTHONPATH", "/x")
        monkeypatch.setenv("HF_HOME", "/cache")
        monkeypatch.setenv("https_proxy", "http://proxy")
        made = environment.base_environment(tmp_path, {"MINE": "1"})
        assert "AWS_PROFILE" not in made
        assert "PYTHONPATH" not in made
        assert (made["HF_HOME"], made["https_proxy"], made["MINE"]) == (
            "/cache",
            "http://proxy",
            "1",
        )
        assert made["SAGEMAKER_BASE_DIR"] == str(tmp_path)

    def test_the_training_module_is_ours_unless_the_request_says_otherwise(self, tmp_path):
        def module(request_environment, hyperparameters):
            made = environment.training_environment(
                tmp_path, request_environment, hyperparameters, name="n", arn="a"
            )
            return made.get("SAGEMAKER_TRAINING_MODULE")

        assert module({}, {}) == "sm_train.entry:main"
        assert module({"SAGEMAKER_TRAINING_MODULE": "x:y"}, {}) == "x:y"
        assert module({}, {"sagemaker_program": '"train.py"'}) is None

    def test_a_step_keeps_its_memory_as_in_the_image_unless_the_request_says_otherwise(
        self, tmp_path
    ):
        def tunables(request_environment):
            made = environment.training_environment(
                tmp_path, request_environment, {}, name="n", arn="a"
            )
            return made["GLIBC_TUNABLES"]

        image = images.repository() / "containers" / "train" / "Dockerfile"
        assert f"GLIBC_TUNABLES={tunables({})} " in image.read_text()
        assert tunables({"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}).endswith("arena_max=1")

    def test_serving_has_large_pages_as_in_the_image_unless_the_request_says_otherwise(
        self, tmp_path
    ):
        def tunables(request_environment):
            return environment.serving_environment(tmp_path, request_environment, 1)[
                "GLIBC_TUNABLES"
            ]

        image = images.repository() / "containers" / "serve" / "Dockerfile"
        assert f"GLIBC_TUNABLES={tunables({})}\n" in image.read_text()
        assert tunables({"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}).endswith("arena_max=1")

    @pytest.mark.parametrize("written", ["/opt/ml/input/data/code", '"/opt/ml/input/data/code"'])
    def test_a_users_script_lies_below_the_base_directory(self, written, tmp_path):
        values = {"sagemaker_submit_directory": written, "epochs": "3"}
        local = environment.local_hyperparameters(values, tmp_path)
        assert local == values | {"sagemaker_submit_directory": f"{tmp_path}/input/data/code"}
        for other in ({}, {"sagemaker_submit_directory": "s3://b/code.tar.gz"}):
            assert environment.local_hyperparameters(other, tmp_path) == other

    def test_a_missing_program_is_named_with_a_fix(self, tmp_path):
        with pytest.raises(LaunchError, match="'train' is not installed"):
            require_command([str(tmp_path / "train")], "CreateTrainingJob")


class TestListing:
    ITEMS = tuple(
        {"JobName": name, "Status": status, "CreationTime": datetime(2026, 1, day, tzinfo=UTC)}
        for name, status, day in [("a-x", "Failed", 2), ("b-x", "Completed", 1), ("c", "Failed", 3)]
    )

    def names(self, **request):
        chosen, more = page(list(self.ITEMS), request, name_key="JobName", status_key="Status")
        return [item["JobName"] for item in chosen], more

    def test_newest_first_by_default(self):
        assert self.names() == (["c", "a-x", "b-x"], {})

    def test_sorting(self):
        assert self.names(SortBy="Name", SortOrder="Ascending")[0] == ["a-x", "b-x", "c"]
        assert self.names(SortBy="Status", SortOrder="Ascending")[0] == ["b-x", "a-x", "c"]

    def test_a_key_that_is_given_goes_before_sort_by(self):
        chosen, _ = page(
            list(self.ITEMS),
            {"SortBy": "Name", "SortOrder": "Ascending"},
            name_key="JobName",
            sort_key=lambda item: -item["CreationTime"].timestamp(),
        )
        assert [item["JobName"] for item in chosen] == ["c", "a-x", "b-x"]

    def test_filters(self):
        assert self.names(NameContains="-X")[0] == ["a-x", "b-x"]
        assert self.names(StatusEquals="Failed")[0] == ["c", "a-x"]
        after = datetime(2026, 1, 2, tzinfo=UTC)
        assert self.names(CreationTimeAfter=after)[0] == ["c"]
        assert self.names(CreationTimeBefore=after)[0] == ["b-x"]
        # What was never changed counts as changed when it was made.
        assert self.names(LastModifiedTimeAfter=after)[0] == ["c"]

    def test_pages(self):
        first, more = self.names(MaxResults=2)
        second, end = self.names(MaxResults=2, **more)
        assert (first + second, end) == (["c", "a-x", "b-x"], {})


def test_a_description_has_datetimes_and_no_inner_keys():
    state = {"CreationTime": 0, "port": 1, "List": [{"StartTime": 0, "Value": 1}]}
    epoch = datetime.fromtimestamp(0, UTC)
    assert described(state) == {"CreationTime": epoch, "List": [{"StartTime": epoch, "Value": 1}]}


def test_a_failure_reason_keeps_its_beginning():
    assert shorten("  cause" + "x" * 2000) == ("cause" + "x" * 2000)[:1024]


def test_a_transition_ends_the_one_before():
    transitions = []
    transition(transitions, "Starting", "a")
    transition(transitions, "Training", "b")
    assert transitions[0]["EndTime"] == transitions[1]["StartTime"]
    assert "EndTime" not in transitions[1]
