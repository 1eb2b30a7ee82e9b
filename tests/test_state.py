"""What scripts remember outlives them, however they end."""


def test_an_acknowledged_write_survives_kill(kernel):
    for value in (1, 2):
        one = kernel("--id", "keeper")
        with one.wire() as wire:
            if value == 2:
                assert wire.stdout("print(JSON.stringify(State.load('g', 'x')))") == '{"n":1}\n'
            assert wire.stdout(f"State.save('g', 'x', {{n = {value}}}) print('saved')") == "saved\n"
        one.kill()
        one.ended()


def test_runs_without_a_kernel_share_a_store(run, place):
    assert run("run", "-e", "State.save('notes', 'a', 'kept')").code == 0
    assert run("run", "-e", "print(State.load('notes', 'a'))").out == "kept\n"
    for file in (place.home / "store").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    backup = "local b = State.create_backup() State.save('notes', 'a', 'new') State.restore_backup(b.backup_id)"
    done = run("run", "-e", backup + " print(State.load('notes', 'a'), #State.list_backups())")
    assert done.out == "kept\t1\n", done


def test_kernels_share_a_store_when_told(kernel, place):
    place.config('[state]\nstore = "shared"\n')
    a, b = kernel("--id", "a"), kernel("--id", "b")
    with a.wire() as one, b.wire() as two:
        code = "for _ = 1, 100 do State.increment('g', 'n') end"
        waiting = [(wire, wire.send("shell", "execute_request", {"code": code})) for wire in (one, two)]
        for wire, header in waiting:
            reply = wire.reply("shell", header)
            assert reply.content["status"] == "ok", reply
        assert one.stdout("print(State.load('g', 'n'))") == "200\n"


def test_a_store_that_cannot_be_used_is_an_error_of_the_script(run, place):
    (place.home / "store").mkdir(mode=0o700, parents=True)
    (place.home / "store" / "default.db").write_text("not a database at all, whatever its name may say")
    done = run("run", "-e", "print(pcall(State.load, 'g', 'x'))")
    assert done.out.startswith("false\t") and "default.db" in done.out, done
