"What tests of the command share"
from textnb.command.parser import main

def run(capsys, *args):
    "Exit code, standard output and standard error of a command"
    capsys.readouterr()
    try: code = main([str(a) for a in args])
    except SystemExit as e: code = e.code
    o = capsys.readouterr()
    assert 'Traceback' not in o.err
    return code, o.out, o.err
