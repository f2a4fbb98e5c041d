"""The file itself: killed processes, damage, other processes, later versions."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest

from rocmforge.context import ContextStore, Search, schema
from rocmforge.errors import UnavailableError, UnsupportedError

WRITER = """
import sys
from pathlib import Path
from rocmforge.context import ContextStore
store = ContextStore(Path(sys.argv[1]))
for i in range(100000):
    store.add("s", f"{sys.argv[2]}-{i}", ["some text " * 50] * 3, None)
    print(f"{sys.argv[2]}-{i}", flush=True)
"""


def names(store: ContextStore) -> set[str]:
    return {info.name for info in store.documents("s")}


def filled(path: Path, count: int = 20) -> ContextStore:
    store = ContextStore(path)
    for i in range(count):
        store.add("s", f"d{i}", [f"chunk number {i} of cats", "and another"], None)
    return store


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    acknowledged: set[str] = set()
    for run in range(4):
        command = [sys.executable, "-c", WRITER, str(path), str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(5 + 7 * run):
                acknowledged.add(process.stdout.readline().strip())
            process.send_signal(signal.SIGKILL)
            acknowledged.update(line.strip() for line in process.stdout if line.endswith("\n"))
    store = ContextStore(path)
    assert acknowledged <= names(store)
    assert len(acknowledged) >= 5 + 12 + 19 + 26
    assert all(info.num_chunks == 3 for info in store.documents("s"))
    assert store.set_aside == []
    with apsw.Connection(str(path)) as connection:
        assert connection.pragma("integrity_check") == "ok"
        assert connection.execute("SELECT count(*) FROM pragma_foreign_key_check").get == 0


def test_commits_wait_for_the_disk_and_the_file_may_not_run_code(tmp_path: Path) -> None:
    store = filled(tmp_path / "c.db", 1)
    with store._database.reading() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "trusted_schema")
        assert [connection.pragma(name) for name in pragmas] == ["wal", 2, 1, 1, 0]
        assert connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, -1) == 1
        with pytest.raises(apsw.SQLError, match="not authorized"):
            connection.execute("SELECT load_extension('x')")
        with pytest.raises(apsw.SQLError, match="too many attached"):
            connection.execute("ATTACH ':memory:' AS other")
    mode = (tmp_path / "c.db").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    path.write_bytes(b"this is a note\n" * 1000)
    store = filled(path, 3)
    assert len(names(store)) == 3
    (aside,) = store.set_aside
    assert aside.name.startswith("c.db.corrupt-")
    assert aside.read_bytes() == b"this is a note\n" * 1000


def test_tables_of_another_program_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    filled(path, 1).close()
    with apsw.Connection(str(path)) as connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON chunks BEGIN DELETE FROM links; END")
    assert len(names(filled(path, 2))) == 2
    assert len(list(tmp_path.glob("c.db.corrupt-*"))) >= 1


def test_a_version_that_is_not_that_of_the_tables_sets_the_file_aside(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    filled(path, 1).close()
    with apsw.Connection(str(path)) as connection:
        connection.pragma("user_version", 0)
    store = filled(path, 2)
    assert len(store.set_aside) == 1
    assert len(names(store)) == 2


def test_an_index_that_leads_nowhere_sets_the_file_aside(tmp_path: Path) -> None:
    store = filled(tmp_path / "c.db", 3)
    with apsw.Connection(str(tmp_path / "c.db")) as connection:
        connection.execute("DELETE FROM documents WHERE name = 'd1'")
        connection.execute("INSERT INTO links VALUES (1, 'k', 2)")
    with pytest.raises(UnavailableError, match="was damaged"):
        store.search("s", Search("0", k=1))
    assert store.stores() == []


def test_flipped_bits_are_never_fatal(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    filled(path, 12).close()
    good = path.read_bytes()
    choose = random.Random(3)
    num_aside = 0
    for i in range(120):
        data = bytearray(good)
        for _ in range(choose.choice((1, 8, 64))):
            data[choose.randrange(len(data) if i % 2 else 4096)] ^= 1 << choose.randrange(8)
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "c.db").write_bytes(data)
        store = ContextStore(folder / "c.db")
        for _ in range(3):  # an error sets the file aside, then a new one is used
            try:
                store.add("s", "new", ["words"], None)
                assert store.search("s", Search("words cats number"))
                assert len(list(store.export("s"))) >= 1
                break
            except (UnavailableError, UnsupportedError) as error:
                last = error
        else:
            assert isinstance(last, UnsupportedError)  # the version was hit
        num_aside += len(store.set_aside)
        store.close()
    assert num_aside > 20


def test_a_garbled_log_costs_no_more_than_its_end(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    store = filled(path, 3)
    log = (tmp_path / "c.db-wal").read_bytes()
    data = path.read_bytes()
    assert len(log) > 40_000
    for i, size in enumerate(range(0, len(log), len(log) // 20)):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "c.db").write_bytes(data)
        (folder / "c.db-wal").write_bytes(log[:size] + b"\xff" * 512 + log[size + 512 :])
        copy = ContextStore(folder / "c.db")
        copy.add("s", "d0", ["x"], None)
        assert names(copy) in ({"d0"}, {"d0", "d1"}, {"d0", "d1", "d2"})
        copy.close()
    store.close()


def test_a_file_deleted_while_open_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    store = filled(path, 3)
    for file in tmp_path.iterdir():
        file.unlink()
    store.add("s", "new", ["x"], None)
    assert names(ContextStore(path)) == {"new"}


def test_two_stores_on_one_file_see_what_the_other_writes(tmp_path: Path) -> None:
    first, second = ContextStore(tmp_path / "c.db"), ContextStore(tmp_path / "c.db")

    def write(store: ContextStore, letter: str) -> None:
        for i in range(15):
            store.add("s", f"{letter}{i}", ["x"], None)

    threads = [threading.Thread(target=write, args=(first, letter)) for letter in "ab"]
    threads += [threading.Thread(target=write, args=(second, letter)) for letter in "cd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(first)) == len(names(second)) == 60


def test_a_file_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    filled(path, 1).close()
    with apsw.Connection(str(path)) as connection:
        connection.pragma("user_version", 99)
    with pytest.raises(UnsupportedError, match="has version 99; this build knows versions up to 1"):
        ContextStore(path).stores()
    assert path.exists()


def test_a_migration_keeps_what_there_was_and_happens_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.db"
    filled(path, 2).close()
    added = "ALTER TABLE stores ADD COLUMN note TEXT; "
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, f"{added} SELECT broken;"))
    with pytest.raises(apsw.SQLError):
        ContextStore(path).stores()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS[:-1], added))
    assert names(ContextStore(path)) == {"d0", "d1"}
    with apsw.Connection(str(path)) as connection:
        assert connection.pragma("user_version") == 2


def test_a_folder_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.db").mkdir()
    with pytest.raises(UnavailableError, match=r"c.db cannot be opened: Is a directory"):
        ContextStore(tmp_path / "c.db").stores()


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path / "c.db", 2)
    with store._database.reading() as connection:
        connection.pragma("max_page_count", connection.pragma("page_count") + 2)
    with pytest.raises(UnavailableError, match="full"):
        store.add("s", "large", ["x" * 100_000], None)
    assert names(store) == {"d0", "d1"}
    store.add("s", "large", ["x" * 100_000], None)  # opened anew, without the bound
    assert os.path.getsize(tmp_path / "c.db-wal") > 100_000  # noqa: PTH202
