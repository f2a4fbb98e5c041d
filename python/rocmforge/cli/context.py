"""`rocmforge context`: documents that questions are answered with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rocmforge.cli.command import JsonOption, ModelOptions
from rocmforge.cli.failures import one_line
from rocmforge.cli.loading import opened
from rocmforge.cli.terminal import note, progress, write, write_generated, write_json
from rocmforge.cli.text_input import text_of_file, text_or_stdin
from rocmforge.errors import InvalidArgumentError

if TYPE_CHECKING:
    from rocmforge import LLM
    from rocmforge.context import ContextStore

HELP = "Keep documents and links, and find them by meaning."

FolderOption = Annotated[
    Path | None,
    typer.Option("--dir", metavar="D", help="Their folder; or $ROCMFORGE_CONTEXT_DIR."),
]
StoreOption = Annotated[str, typer.Option("--store", metavar="S", help="Which of the folder's.")]
DEFAULT_STORE = "default"


def add(
    load: ModelOptions,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Texts; - reads stdin.")],
    folder: FolderOption = None,
    store: StoreOption = DEFAULT_STORE,
    name: Annotated[
        str | None, typer.Option("--name", metavar="N", help="Of the one document; its path.")
    ] = None,
    chunk_chars: Annotated[
        int, typer.Option("--chunk-chars", metavar="N", help="Characters of a chunk, at most.")
    ] = 800,
    words_only: Annotated[
        bool, typer.Option("--words-only", help="Make no vectors; no model is loaded.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Add documents, or replace those of the same name. What is said to be added is on the disk.

    A store has the vectors of one model; give the same --model to search it.
    """
    from rocmforge.context import chunked

    if name is not None and len(files) > 1:
        msg = f"--name is for one document, not for {len(files)}"
        raise InvalidArgumentError(msg)
    documents = []
    for file in files:
        text = text_or_stdin(file) if file == "-" else text_of_file(file)
        documents.append((name or file, chunked(text, chunk_chars)))
    added = []
    with _opened_store(folder) as context:
        if words_only:
            for title, chunks in documents:
                added.append(context.add(store, title, chunks, None))
        else:
            with opened(load) as llm:
                for title, chunks in documents:
                    context.check_add(store, title, chunks, embedder_name(llm))
                    with progress(f"embedding {one_line(title)}, {len(chunks)} chunks"):
                        vectors = llm.embed(chunks, normalize=True)
                    added.append(context.add(store, title, chunks, vectors, embedder_name(llm)))
    if json_output:
        write_json({"store": store, "documents": [asdict(info) for info in added]})
    else:
        write("".join(f"{one_line(info.name)}: {info.num_chunks} chunks\n" for info in added))


def search(
    load: ModelOptions,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question, or words; -: stdin.")],
    folder: FolderOption = None,
    store: StoreOption = DEFAULT_STORE,
    k: Annotated[int, typer.Option("-k", metavar="N", help="Chunks that match.")] = 5,
    depth: Annotated[int, typer.Option("--depth", metavar="N", help="Links to follow.")] = 1,
    linked: Annotated[
        int, typer.Option("--linked", metavar="N", help="Chunks of linked documents.")
    ] = 2,
    json_output: JsonOption = False,
) -> None:
    """Find chunks by meaning and words together, then one of each document linked from theirs."""
    from rocmforge.context import Search

    wanted = Search(text_or_stdin(query), k, depth, linked)
    with _opened_store(folder) as context:
        if context.embedder(store):
            with opened(load) as llm:
                vector = llm.embed(wanted.query, normalize=True)[0]
                hits = context.search(store, wanted, vector, embedder_name(llm))
        else:
            hits = context.search(store, wanted)
    if json_output:
        write_json({"store": store, "hits": [hit.report() for hit in hits]})
        return
    for hit in hits:
        write(f"{one_line(hit.document)} #{hit.position} ({hit.via}, {hit.score:.4f})\n")
        write_generated(f"{hit.text}\n\n")


def link(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A document.")],
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Such as cites or explains.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The document it leads to.")],
    folder: FolderOption = None,
    store: StoreOption = DEFAULT_STORE,
    json_output: JsonOption = False,
) -> None:
    """Link a document to another, which a search that finds the first then finds as well."""
    with _opened_store(folder) as context:
        is_new = context.link(store, source, kind, target)
    if json_output:
        write_json({"source": source, "kind": kind, "target": target, "new": is_new})
    else:
        write("linked\n" if is_new else "linked already\n")


def list_(
    folder: FolderOption = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="S", help="Its documents; else the stores.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """List the stores, or the documents of one."""
    with _opened_store(folder) as context:
        if store is None:
            stores = context.stores()
            if json_output:
                write_json({"stores": [asdict(info) for info in stores]})
            else:
                write("".join(f"{s.name}: {s.num_documents} documents\n" for s in stores))
            return
        documents, last = [], ""
        while page := context.documents(store, last):
            documents += page
            last = page[-1].name
    if json_output:
        write_json({"store": store, "documents": [asdict(info) for info in documents]})
    else:
        write("".join(f"{one_line(d.name)}: {d.num_chunks} chunks\n" for d in documents))


def delete(
    document: Annotated[
        str | None, typer.Argument(metavar="[DOCUMENT]", help="Without it the whole store.")
    ] = None,
    folder: FolderOption = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="S", help="Has to be given for a whole one.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Delete a document, or a store, with chunks, vectors and links."""
    if document is None and store is None:
        msg = "say which document, or which --store to delete with all it has"
        raise InvalidArgumentError(msg)
    with _opened_store(folder) as context:
        count = context.delete(store or DEFAULT_STORE, document)
    if json_output:
        write_json({"store": store or DEFAULT_STORE, "deleted": count})
    else:
        write(f"deleted {count} documents\n")


def export(
    folder: FolderOption = None,
    store: StoreOption = DEFAULT_STORE,
    json_output: JsonOption = False,
) -> None:
    """Write all documents with chunks and links as JSON, one a line; one object with --json."""
    with _opened_store(folder) as context:
        if json_output:
            write_json({"store": store, "documents": list(context.export(store))})
        else:
            for document in context.export(store):
                write_json(document)


COMMANDS: dict[str, Callable[..., None]] = {
    "add": add,
    "search": search,
    "link": link,
    "list": list_,
    "delete": delete,
    "export": export,
}


def embedder_name(llm: LLM) -> str:
    return f"{llm.name} ({llm.pooling})"


@contextmanager
def _opened_store(folder: Path | None) -> Iterator[ContextStore]:
    from rocmforge.context import ContextStore
    from rocmforge.context.places import default_folder, file_of

    with closing(ContextStore(file_of(folder or default_folder()))) as context:
        try:
            yield context
        finally:
            for path in context.set_aside:
                note(one_line(f"a damaged context store was set aside: {path}"))
