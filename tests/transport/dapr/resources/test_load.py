"""Reading folders: files, documents, and what is wrong with them."""

from pathlib import Path

import pytest

from tests.transport.dapr.resources.kit import Folder, component_text
from transport.dapr.resources.errors import ResourceError
from transport.dapr.resources.load import load
from transport.dapr.resources.nodes import FILE_BYTES


def named(name: str) -> str:
    return component_text("pubsub.in-memory").replace("orders", name)


def names(*folders: Path) -> list[str]:
    return [component.name for component in load(folders).components]


def failure(path: Path) -> str:
    with pytest.raises(ResourceError) as caught:
        load([path])
    return caught.value.message


def test_every_yaml_file_is_read_in_the_order_of_names(folder: Folder) -> None:
    for name, file in (("c", "3.yaml"), ("a", "1.yml"), ("b", "2.YAML"), ("x", "4.txt")):
        folder.write(named(name), file)
    (folder.path / "below.yaml").mkdir()
    assert names(folder.path) == ["a", "b", "c"]


def test_several_folders_are_read_one_after_the_other(tmp_path: Path) -> None:
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "a.yaml").write_text(named(f"c{number}"))
    assert names(tmp_path / "2", tmp_path / "1") == ["c2", "c1"]


def test_a_file_may_hold_several_documents_and_empty_ones(folder: Folder) -> None:
    folder.write(f"---\n{named('a')}---\n# nothing\n---\n{named('b')}---\n")
    assert names(folder.path) == ["a", "b"]


def test_an_empty_folder_says_nothing(tmp_path: Path) -> None:
    assert load([tmp_path]).components == ()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert failure(path) == f"{path}: can't be read: No such file or directory"


def test_a_name_that_stands_there_twice_names_both_places(folder: Folder) -> None:
    folder.write(named("a"), "1.yaml")
    folder.write(f"---\n{named('a')}", "2.yaml")
    assert failure(folder.path) == (
        f"{folder.path}/2.yaml:2: Component a: this name stands already at {folder.path}/1.yaml:1"
    )


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("a: [1\n", "2: no YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c\n", "1: no YAML: mapping values are not allowed here"),
        ("a: *b\n", "1: no YAML: found undefined alias 'b'"),
        ("x: 1\na: \x01\n", "2: no YAML: special characters are not allowed"),
        ("- a\n", "1: the document must be a map, not a list"),
        ("text\n", "1: the document must be a map, not 'text'"),
        ("a: 1\n\na: 2\n", "3: a stands there twice"),
        ("a: &a {b: 1}\n<<: *a\n", "2: << is not supported"),
        ("? [1]\n: 2\n", "1: a key must be text, not a list"),
        ("apiVersion: dapr.io/v1alpha1\n", "1: kind is missing"),
        ("kind: Secret\n", "1: kind 'Secret' is unknown: use one of Component, Subscription, "),
        ("x: 1\nkind: [a]\n", "2: kind must be text, not a list"),
        ("kind: Component\n", "1: apiVersion is missing"),
        (
            "kind: Component\napiVersion: dapr.io/v2\n",
            "2: apiVersion of Component must be dapr.io/v1alpha1, not 'dapr.io/v2'",
        ),
        (
            "kind: Subscription\napiVersion: v1\n",
            "2: apiVersion of Subscription must be dapr.io/v1alpha1 or dapr.io/v2alpha1, not 'v1'",
        ),
        ("kind: Component\napiVersion: dapr.io/v1alpha1\n", "1: metadata is missing"),
        (
            "kind: Component\napiVersion: dapr.io/v1alpha1\nmetadata: {}\n",
            "3: metadata.name is missing",
        ),
        (
            "kind: Component\napiVersion: dapr.io/v1alpha1\nmetadata: {name: ''}\n",
            "3: metadata.name must not be empty",
        ),
        (
            "kind: Component\napiVersion: dapr.io/v1alpha1\nmetadata: {name: a}\nspec:\n",
            "1: spec is missing",
        ),
        (
            "kind: Component\napiVersion: dapr.io/v1alpha1\nmetadata: {name: a}\nspec: x\n",
            "4: spec must be a map, not 'x'",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_number(
    folder: Folder, text: str, refusal: str
) -> None:
    assert folder.refusal(text).startswith(refusal)


def test_a_document_that_is_nested_too_deep_is_refused(folder: Folder) -> None:
    folder.write("[" * 5000 + "]" * 5000)
    assert failure(folder.path).endswith("resource.yaml: no YAML: it is nested too deep")


def test_a_file_that_is_too_long_is_refused(folder: Folder) -> None:
    folder.write("#" * (FILE_BYTES + 1))
    assert failure(folder.path).endswith(f"resource.yaml: is longer than {FILE_BYTES} bytes")


def test_bytes_that_are_no_utf_8_are_refused(folder: Folder) -> None:
    (folder.path / "a.yaml").write_bytes(b"a: 1\nb: \xff\n")
    assert failure(folder.path).endswith("a.yaml:2: is not UTF-8")


def test_a_circle_of_aliases_is_refused_where_it_means_something(folder: Folder) -> None:
    text = component_text("pubsub.in-memory").replace("metadata: []", "metadata: &a [*a]")
    assert folder.refusal(text) == "6: spec.metadata[0] must be a map, not a list"


@pytest.mark.parametrize("kind", ["Configuration", "HTTPEndpoint", "MCPServer"])
def test_other_kinds_of_dapr_are_skipped_with_a_warning(folder: Folder, kind: str) -> None:
    assert folder.warnings(f"\nkind: {kind}\n") == [f"2: kind {kind} is skipped"]


def test_field_names_count_without_regard_to_case_as_in_dapr(folder: Folder) -> None:
    text = component_text("pubsub.in-memory").replace("apiVersion", "APIVersion")
    assert [component.name for component in folder.load(text).components] == ["orders"]
