"Files, locks and folders of base: what the dead leave is swept, what the living hold stays, devices stay devices"
import os, re, signal, stat, subprocess, sys, textwrap, threading, time
from pathlib import Path

import pytest

from textnb.base import (atomic_write, files, locked, process_mark, restore_folder, save_json, swap_folder, sweep, temporary_folder,
    temporary_name)

posix = pytest.mark.skipif(os.name=='nt', reason='kills, devices and limits of Unix')
def names(folder): return sorted(os.listdir(folder))

def run(code, *args): return subprocess.run([sys.executable, '-c', textwrap.dedent(code), *map(str, args)], capture_output=True, text=True, timeout=120)

def dead_mark():
    p = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    mark = process_mark(p.pid)
    p.communicate()
    return mark

def old(path, days): os.utime(path, (time.time()-days*86400,)*2)

@posix
def test_what_a_killed_writer_leaves_is_swept_by_the_next(tmp_path):
    code = '''
        import os, signal, sys
        from textnb.base import atomic_write
        with atomic_write(sys.argv[1]) as f:
            f.write(b'half')
            f.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    '''
    f = tmp_path/'a.json'
    save_json(f, 1)
    assert run(code, f).returncode==-signal.SIGKILL
    assert len(names(tmp_path))==2 and f.read_text()=='1'
    save_json(tmp_path/'b.json', 2)
    assert names(tmp_path)==['a.json', 'b.json']

@posix
def test_only_the_dead_are_swept(tmp_path):
    dead = dead_mark()
    stay = [temporary_name(tmp_path/'mine').name, f'.x.{dead}.tmp', f'x.{dead}.00000000.tmp', f'.x.{dead[:-8]}00000000.00000000.tmp', '.notes.tmp', '.x.0000000g.tmp', '.x.12345678.tmp', 'a.tmp']
    go = [f'.x.{dead}.00000000.tmp', f'..{dead}.abcdef01.tmp', '.new\nline.'+dead+'.00000000.tmp']
    for o in [*stay, *go]: (tmp_path/o).touch()
    for o in stay[:3]+stay[4:6]: old(tmp_path/o, 900)
    (tmp_path/f'.f.{dead}.00000001.tmp'/'in').mkdir(parents=True)
    (tmp_path/f'.l.{dead}.00000002.tmp').symlink_to(tmp_path/'a.tmp')
    sweep(tmp_path)
    assert names(tmp_path)==sorted(stay)

def test_what_nobody_knows_goes_by_age(tmp_path):
    "Of another machine after a week, of an older textnb after a day"
    other = f'.x.{process_mark()[:-8]}00000000.00000000.tmp'
    for days, left in ((.5, 2), (2, 1), (8, 0)):
        for o in (other, '.x.12345678.tmp'):
            (tmp_path/o).touch()
            old(tmp_path/o, days)
        sweep(tmp_path)
        assert len(names(tmp_path))==left, days

def test_a_long_name_in_any_script(tmp_path):
    for name in ('ü'*120, '日本語'*27, 'a'*250, '.'*200): save_json(tmp_path/name, 1)
    assert len(names(tmp_path))==4

@posix
def test_devices_and_pipes_stay_what_they_are(tmp_path):
    pipe = tmp_path/'pipe'
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    with atomic_write(pipe) as f: f.write(b'through')
    reader.join(10)
    assert got==[b'through'] and stat.S_ISFIFO(pipe.stat().st_mode) and names(tmp_path)==['pipe']
    with atomic_write('/dev/null', 'w') as f: f.write('away')
    assert stat.S_ISCHR(os.stat('/dev/null').st_mode)

@pytest.mark.skipif(not Path('/dev/full').exists(), reason='no /dev/full')
def test_a_device_that_is_full():
    with pytest.raises(OSError, match='/dev/full did not take what was written') as e: save_json('/dev/full', 1)
    assert e.value.errno==28

@posix
@pytest.mark.parametrize('size, told', [(None, r'[\d.]+ MB of it were written, and [\d.,]+ MB are free in'), (5_000_000, r'It needs 5.0 MB, and [\d.,]+ MB are free in')])
def test_a_full_disk_says_how_much_is_needed(tmp_path, size, told):
    f = tmp_path/'a'
    f.write_text('old')
    with pytest.raises(OSError, match=rf'No space left.*a was not written, and what was there before is untouched. {told} {tmp_path}: make room'):
        with atomic_write(f, size=size) as o:
            o.write(bytes(2_000_000))
            raise OSError(28, 'No space left on device')
    assert f.read_text()=='old' and names(tmp_path)==['a']

@posix
def test_a_limit_on_files(tmp_path):
    r = run('''
        import resource, signal, sys
        from textnb.base import atomic_write
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with atomic_write(sys.argv[1]) as f: f.write(bytes(300_000))
        except OSError as e: print(e)
    ''', tmp_path/'a')
    assert 'The system allows no file of' in r.stdout and 'ulimit -f' in r.stdout and names(tmp_path)==[]

# ---- locks

def test_locks_do_not_pile_up(tmp_path):
    for i in range(5):
        with locked(tmp_path/f'set{i}'): assert names(tmp_path)==[f'.set{i}.textnb.lock']
    assert names(tmp_path)==[]

@posix
def test_locks_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path):
    code = '''
        import os, signal, sys
        from textnb.base import locked
        with locked(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)
    '''
    run(code, tmp_path/'a')
    assert names(tmp_path)==['.a.textnb.lock']
    with locked(tmp_path/'b'):
        (tmp_path/'.other.lock').touch()
        with locked(tmp_path/'c'): assert names(tmp_path)==['.b.textnb.lock', '.c.textnb.lock', '.other.lock']
    assert names(tmp_path)==['.other.lock']

def test_one_at_a_time(tmp_path):
    "Six processes that each add one to a number in a file, 20 times, while the lock file comes and goes"
    code = '''
        import sys
        from pathlib import Path
        from textnb.base import locked
        f = Path(sys.argv[1])
        for _ in range(20):
            with locked(f):
                n = int(f.read_text())
                f.write_text(str(n+1))
    '''
    f = tmp_path/'n'
    f.write_text('0')
    ps = [subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), str(f)], stderr=subprocess.DEVNULL) for _ in range(6)]
    assert [p.wait(120) for p in ps]==[0]*6
    assert f.read_text()=='120' and names(tmp_path)==['n']

def test_threads_wait_and_say_so(tmp_path, capsys):
    order = []
    def second():
        with locked(tmp_path/'a'): order.append(2)
    with locked(tmp_path/'a'):
        t = threading.Thread(target=second)
        t.start()
        time.sleep(.5)
        order.append(1)
    t.join(10)
    assert order==[1, 2] and 'another process is working on a' in capsys.readouterr().err

# ---- folders

def test_a_folder_is_swapped(tmp_path):
    (tmp_path/'a').mkdir()
    (tmp_path/'a'/'old').touch()
    with temporary_folder(tmp_path/'a') as d:
        (d/'n').mkdir()
        (d/'n'/'new').touch()
        swap_folder(d/'n', tmp_path/'a')
    assert names(tmp_path)==['a'] and names(tmp_path/'a')==['new']

def test_what_a_killed_swap_left(tmp_path):
    for there in (False, True):
        (tmp_path/'.a.old').mkdir()
        (tmp_path/'.a.old'/'old').touch()
        if there: (tmp_path/'a'/'old').unlink()
        restore_folder(tmp_path/'a')
        assert names(tmp_path)==['a'] and names(tmp_path/'a')==([] if there else ['old'])

def test_every_writer_uses_the_one_mechanism():
    "No other place of the library makes temporary files with names, or renames"
    root = Path(files.__file__).parent.parent
    found = []
    for f in root.rglob('*.py'):
        if f.name in ('files.py', '_modidx.py', 'toys.py'): continue
        text = f.read_text(encoding='utf-8')
        found += [f'{f.relative_to(root)}: {o}' for o in re.findall(r'os\.replace|os\.rename|mkstemp|mkdtemp|NamedTemporaryFile|FileLock', text)]
    assert found==[]
