"Where a notebook's page lives, and links that work wherever the site is opened"
import re
from pathlib import PurePosixPath

notebook_link = re.compile(r'(?<=\]\()(?!https?:)[^)\s#]+\.ipynb')
_module_path = re.compile(r'(?<![\w./])(?:__main__\.|textnb\.(?:\w+\.)+)(?=[A-Z])')


def page(notebook):
    "The name under which links expect `notebook`: nbdev drops the number of the file and keeps that of the folder"
    path = PurePosixPath(notebook)
    return path.with_name(re.sub(r'^\d+[a-z0-9]*_', '', path.stem.lower())+'.ipynb').as_posix()


def fix_links(markdown, base, up=''):
    "Point the links of `markdown` to pages by their names; those to our own site (`base`) become relative, `up` is the way to its top"
    markdown = notebook_link.sub(lambda m: page(m[0]), markdown)
    return markdown.replace(f']({base}', f']({up}')


def short_names(markdown):
    "`textnb.base.config.Config` becomes `Config`"
    return _module_path.sub('', markdown)
