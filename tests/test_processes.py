"Nothing outlives its parent, however it was started and however the parent ends; marks name one process only"
import os, signal, subprocess, sys, textwrap, time

import pytest

from textnb.base import is_gone, module_with_parent, process_mark

pytestmark = pytest.mark.skipif(os.name=='nt', reason='signals of Unix')
HOW = ['fork', 'spawn', 'forkserver']
SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]

def wait_until(true, seconds=20):
    end = time.monotonic()+seconds
    while not (res := true()) and time.monotonic()<end: time.sleep(.05)
    return res

def started(script, *args):
    "A process that runs `script`, and the marks in its first line"
    p = subprocess.Popen([sys.executable, script, *args], stdout=subprocess.PIPE, text=True)
    return p, p.stdout.readline().split()

def ended(p, sig):
    p.send_signal(sig)
    p.wait()
    p.stdout.close()

MP = '''
    import multiprocessing as mp, re, sys, threading, time
    from textnb.base import die_with_parent, process_mark

    def child(parent, pipe, busy, by_system):
        die_with_parent(parent, by_system=by_system)
        pipe.send(process_mark())
        if busy: re.match('(a+)+$', 'a'*60+'b') # holds the interpreter for longer than anybody lives
        time.sleep(3600)

    def main(how, busy, by_system):
        context = mp.get_context(how)
        pipe, theirs = context.Pipe()
        for _ in range(2): context.Process(target=child, args=(process_mark(), theirs, busy, by_system), daemon=True).start()
        print(pipe.recv(), pipe.recv(), flush=True)
        time.sleep(3600)

    if __name__=='__main__': main(sys.argv[1], 'busy' in sys.argv, 'alone' not in sys.argv)
'''

@pytest.mark.parametrize('sig', SIGNALS, ids=lambda o: o.name)
@pytest.mark.parametrize('how', HOW)
def test_children_end_with_their_parent(tmp_path, how, sig):
    (tmp_path/'s.py').write_text(textwrap.dedent(MP))
    p, marks = started(tmp_path/'s.py', how)
    assert len(marks)==2 and not any(map(is_gone, marks))
    ended(p, sig)
    assert wait_until(lambda: all(map(is_gone, marks)))

def test_the_thread_is_enough(tmp_path):
    "Where the system does not help"
    (tmp_path/'s.py').write_text(textwrap.dedent(MP))
    p, marks = started(tmp_path/'s.py', 'fork', 'alone')
    ended(p, signal.SIGKILL)
    assert wait_until(lambda: all(map(is_gone, marks)))

@pytest.mark.skipif(sys.platform!='linux', reason='only Linux ends a process that is busy')
def test_a_child_that_is_busy(tmp_path):
    (tmp_path/'s.py').write_text(textwrap.dedent(MP))
    p, marks = started(tmp_path/'s.py', 'fork', 'busy')
    ended(p, signal.SIGKILL)
    assert wait_until(lambda: all(map(is_gone, marks)))

MODULE = '''
    import subprocess, sys, threading, time
    from textnb.base import module_with_parent, process_mark

    def start(): return subprocess.Popen(module_with_parent('served'))
    if 'thread' in sys.argv:
        got = []
        t = threading.Thread(target=lambda: got.append(start()))
        t.start()
        t.join()
        child = got[0]
    else: child = start()
    print(process_mark(child.pid), flush=True)
    child.wait()
'''

@pytest.mark.parametrize('sig', SIGNALS, ids=lambda o: o.name)
@pytest.mark.parametrize('thread', [[], ['thread']], ids=['main', 'thread'])
def test_a_module_ends_with_its_parent(tmp_path, monkeypatch, sig, thread):
    "It gets a SIGTERM and time to put things away, also when a thread that has ended long since started it"
    (tmp_path/'served.py').write_text(textwrap.dedent('''
        import pathlib, signal, sys, time
        def tidy(*_):
            pathlib.Path('tidy').write_text('')
            sys.exit()
        signal.signal(signal.SIGTERM, tidy)
        pathlib.Path('ready').write_text('')
        time.sleep(3600)
    '''))
    (tmp_path/'s.py').write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')]))
    p, marks = started(tmp_path/'s.py', *thread)
    assert wait_until((tmp_path/'ready').exists)
    time.sleep(.7)
    assert not is_gone(marks[0])
    ended(p, sig)
    assert wait_until(lambda: is_gone(marks[0])) and (tmp_path/'tidy').exists()

def test_who_does_not_listen_is_ended_by_force(tmp_path):
    (tmp_path/'deaf.py').write_text(textwrap.dedent('''
        import os, signal, sys, time
        from textnb.base import die_with_parent, process_mark
        mine = process_mark()
        if os.fork()==0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            die_with_parent(mine, gently=True)
            print(process_mark(), flush=True)
        time.sleep(3600)
    '''))
    p, marks = started(tmp_path/'deaf.py')
    ended(p, signal.SIGKILL)
    assert wait_until(lambda: is_gone(marks[0]))

def test_a_parent_that_is_gone_already(tmp_path):
    gone = subprocess.Popen([sys.executable, '-c', 'pass'])
    mark = process_mark(gone.pid)
    gone.wait()
    code = f'from textnb.base import die_with_parent; import time; die_with_parent({mark!r}); time.sleep(60)'
    assert subprocess.run([sys.executable, '-c', code], timeout=30).returncode!=0

def test_a_mark_is_that_of_one_process():
    mark = process_mark()
    pid, start, machine = mark.split('-')
    assert int(pid, 16)==os.getpid() and not is_gone(mark) and process_mark(os.getpid())==mark
    assert not is_gone(f'{pid}-{start}-00000000'), 'nothing is known of another machine'
    with pytest.raises(ProcessLookupError, match='no process'): process_mark(2**22+1)

def test_a_module_runs_as_it_would_alone(tmp_path, monkeypatch):
    (tmp_path/'told.py').write_text('import sys; print(__name__, sys.argv[1:], "textnb" in sys.modules); sys.exit(3)')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')]))
    r = subprocess.run(module_with_parent('told', 'a', 'b c'), capture_output=True, text=True)
    assert r.stdout=="__main__ ['a', 'b c'] False\n" and r.returncode==3

def test_no_thread_is_in_the_way_of_an_end():
    "The watch does not keep a process from ending"
    code = 'from textnb.base import die_with_parent; die_with_parent()'
    assert subprocess.run([sys.executable, '-c', code], timeout=60).returncode==0
