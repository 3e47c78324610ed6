# What a program that passed its tests had done to what they rely on: kveval runs this in the sandbox, behind lines that
# set PROMPT, COMPLETION and TESTS (bytes of its source) and ENTRY (the name of the function that is tested). It runs the
# program once more, looking on; a last line "redefined: NAMES" on standard error is what it found. The verdict is that of
# the run before, which nobody looked at.
#
# Found is what is the completion's own, and not the prompt's or the tests':
#   - special methods of its classes that were called straight from the tests (an __eq__ that is always true)
#   - names of builtins, of the prompt and of the tests themselves, as far as the tests use them; whatever is in `builtins`
#   - what it has put into modules and classes of the library, and whatever of a module the tests use that is another now
#   - hooks of the interpreter, frames, ctypes, mock objects and those of test.support, which honest solutions have no use
#     for
# What it makes by exec, eval and compile is its own, too.
import ast
import builtins
import posix
import sys
import types

NAME, MADE = '<candidate>', '<made by the candidate>'
SOURCE = PROMPT + COMPLETION + b'\n' + TESTS


def lines_in(source):
    return source.replace(b'\r\n', b'\n').replace(b'\r', b'\n').count(b'\n')


FIRST = lines_in(PROMPT) + 1  # where the completion begins
BEHIND = FIRST + lines_in(COMPLETION) + 1  # where the tests do
COMPARISONS = {'__eq__', '__ne__', '__lt__', '__le__', '__gt__', '__ge__'}
# Making an object or calling it answers no question of the tests.
QUIET = {'__init__', '__new__', '__call__', '__init_subclass__', '__class_getitem__', '__set_name__', '__prepare__', '__del__'}
FRAMES = {'_getframe', '_current_frames', 'currentframe', 'f_back', 'f_locals', 'f_globals', 'f_builtins', 'tb_frame',
          'get_objects', 'get_referrers', '__code__', '__subclasses__'}
ODD = ('ctypes', '_ctypes', 'unittest.mock', 'test.support')
STREAMS = {('sys', 'stdin'), ('sys', 'stdout'), ('sys', 'stderr')}

found = {}
built, own_classes, watchers = {}, {}, {}


def note(what):
    found.setdefault(what)


def is_own(code):
    return code.co_filename == MADE or (code.co_filename == NAME and FIRST <= code.co_firstlineno < BEHIND)


# Of code that runs the line decides: the function that is tested begins in the prompt.
def is_asked_by_own(frame):
    name = frame.f_code.co_filename
    return name == MADE or (name == NAME and FIRST <= frame.f_lineno < BEHIND)


def is_own_value(value):
    kind = type(value)
    if kind in (staticmethod, classmethod):
        return is_own_value(value.__func__)
    if kind is property:
        return any(is_own_value(part) for part in (value.fget, value.fset) if part)
    if kind is types.FunctionType:
        return is_own(value.__code__)
    return id(value) in own_classes or id(kind) in own_classes


# ---- Classes ------------------------------------------------------------------------------------------

def special(cls):
    for key, value in list(type.__getattribute__(cls, '__dict__').items()):
        if key.startswith('__') and key.endswith('__') and key not in QUIET:
            yield key, value


def watched(cls, key, method):
    def call(*positional, **keywords):
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != NAME:
            frame = frame.f_back
        if frame is not None and frame.f_lineno >= BEHIND:
            note(f'{cls.__name__}.{key}')
        return method(*positional, **keywords)
    watchers[id(call)] = call
    return call


def watch(cls):
    own_classes[id(cls)] = cls
    for key, value in special(cls):
        if type(value) is types.FunctionType and is_own(value.__code__):
            type.__setattr__(cls, key, watched(cls, key, value))
        elif key == '__class__' or (key in COMPARISONS and value is not None and type(value) is not types.FunctionType):
            note(f'{cls.__name__}.{key}')


build_class = builtins.__build_class__


def build_and_watch(function, *arguments, **keywords):
    cls = build_class(function, *arguments, **keywords)
    built[id(cls)] = cls
    if is_own(function.__code__) and isinstance(cls, type):
        watch(cls)
    return cls


# exec and eval, with the places of the code that asks for them.
def running(run, mode):
    def call(source, space=None, local=None, /, **keywords):
        frame = sys._getframe(1)
        space, local = keywords.pop('globals', space), keywords.pop('locals', local)  # names since Python 3.13
        if local is None:
            local = frame.f_locals if space is None else space
        if is_asked_by_own(frame) and isinstance(source, (str, bytes)):
            blank = ' \t' if isinstance(source, str) else b' \t'
            text = source.lstrip(blank) if mode == 'eval' else source
            source = compile_as_it_is(text, MADE, mode, dont_inherit=True)
        return run(source, frame.f_globals if space is None else space, local, **keywords)
    return call


compile_as_it_is = compile


def compile_and_mark(source, filename, *positional, **keywords):
    own = is_asked_by_own(sys._getframe(1))
    return compile_as_it_is(source, MADE if own else filename, *positional, **keywords)


# Methods that came later than their class, and classes made by calls of type().
def look_at_classes():
    pending, seen = [object], set()
    while pending:
        cls = pending.pop()
        if id(cls) in seen:
            continue
        seen.add(id(cls))
        pending += type.__subclasses__(cls)
        if id(cls) in built and id(cls) not in own_classes:
            continue
        for key, value in special(cls):
            if type(value) is types.FunctionType and id(value) not in watchers and is_own(value.__code__):
                note(f'{cls.__name__}.{key}')


# ---- Names --------------------------------------------------------------------------------------------

def bound_by(node):
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).split('.')[0]


def modules_of(node):
    if isinstance(node, ast.ImportFrom):
        return [f'{node.module}.{alias.name}' for alias in node.names]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def joined(node):
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = joined(node.left), joined(node.right)
        return left + right if left and right else None
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


# What tests carry as text and run by exec: comparisons, a solution to compare with.
def carried(tree):
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or node.lineno < BEHIND:
            continue
        for text in map(joined, node.args):
            if text and 'import ' in text:
                try:
                    yield ast.parse(text)
                except Exception:  # no program
                    pass


# Names that the tests use; that prompt and tests bind; the modules that these import, and what they use of them; and what
# of the completion needs no running.
def read(tree):
    used, given, libraries, parts = set(), set(), set(), set()
    for node in ast.walk(tree):
        line = getattr(node, 'lineno', None)
        if line is None:
            continue
        if not FIRST <= line < BEHIND:
            if isinstance(node, ast.Attribute):
                parts.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and line >= BEHIND:
                used.add(node.id)
            given.update(bound_by(node))
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                given.update(name for alias in node.names for name in bound_by(alias))
                parts.update(alias.name for alias in node.names)
                libraries.update([node.module or ''] if isinstance(node, ast.ImportFrom) else modules_of(node))
            continue
        if isinstance(node, ast.Attribute) and node.attr in FRAMES:
            note('.' + node.attr)
        for module in [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else modules_of(node):
            for odd in ODD:
                if (module + '.').startswith(odd + '.'):
                    note(odd)
    for node in (node for text in carried(tree) for node in ast.walk(text)):
        if isinstance(node, ast.Attribute):
            parts.add(node.attr)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            parts.update(alias.name for alias in node.names)
            libraries.update([node.module or ''] if isinstance(node, ast.ImportFrom) else modules_of(node))
    return used, given, libraries, parts


# What tests themselves make of the program's classes is theirs.
def is_made_by_tests(name, value, tree):
    return type(value) is not types.FunctionType and id(value) not in own_classes and any(
        isinstance(node, ast.Assign) and node.lineno >= BEHIND and name in [n for t in node.targets for n in bound_by(t)]
        for node in tree.body)


def look_at_names(space, used, given, tree):
    for name in sorted(used - {ENTRY}):
        if name not in space:
            continue
        if name in given:
            if is_own_value(space[name]) and not is_made_by_tests(name, space[name], tree):
                note(name)
        elif name in builtins_before and '*' not in given:
            note(name)


# ---- The library --------------------------------------------------------------------------------------

def look_at_builtins():
    now = vars(builtins)
    for name in sorted({*builtins_before, *now} - {'_'}):
        if name not in now or builtins_before.get(name, found) is not now[name]:
            note(f'builtins.{name}')


def as_they_are(libraries):
    for name in libraries:
        try:
            __import__(name)
        except Exception:  # the program may do without
            continue
        yield name, sys.modules[name], dict(vars(sys.modules[name]))


def look_at_libraries(before, parts):
    for name, module, values in before:
        if sys.modules.get(name) is not module:
            note(name)
        for key in sorted(parts & {*values, *vars(module)}):
            if (name, key) not in STREAMS and vars(module).get(key, before) is not values.get(key, before):
                note(f'{name}.{key}')


def look_at_modules(program):
    seen = set()
    for name, module in sorted(sys.modules.items()):
        if type(module) is not types.ModuleType or module is program or name == '__main__':
            continue
        for key, value in list(vars(module).items()):
            if module is builtins or (name, key) in STREAMS:
                continue
            if is_own_value(value):
                note(f'{name}.{key}')
            elif name == 'math' and type(value) is types.BuiltinFunctionType and value.__name__ != key:
                note(f'{name}.{key}')
            elif issubclass(type(value), type) and id(value) not in seen:
                seen.add(id(value))
                for part, what in list(type.__getattribute__(value, '__dict__').items()):
                    if is_own_value(what) and id(what) not in watchers:
                        note(f'{name}.{key}.{part}')


def look_at_hooks():
    if sys.gettrace():
        note('sys.settrace')
    if sys.getprofile():
        note('sys.setprofile')
    if sys.excepthook is not sys.__excepthook__:
        note('sys.excepthook')


# ---- All of it ----------------------------------------------------------------------------------------

run = exec
builtins.__build_class__, builtins.compile = build_and_watch, compile_and_mark
builtins.exec, builtins.eval = running(exec, 'exec'), running(eval, 'eval')
builtins_before = dict(vars(builtins))


def main(run=run, write=posix.write, leave=posix._exit):
    program = sys.modules['program'] = types.ModuleType('program')
    code = compile(SOURCE, NAME, 'exec', dont_inherit=True)
    tree = ast.parse(SOURCE)
    used, given, libraries, parts = read(tree)
    before = list(as_they_are(sorted(libraries)))
    try:
        run(code, program.__dict__)
    finally:
        look_at_hooks()
        look_at_builtins()
        look_at_classes()
        look_at_names(program.__dict__, used, given, tree)
        look_at_libraries(before, parts)
        look_at_modules(program)
        if found:
            write(2, f'\nredefined: {", ".join(found)}\n'.encode('utf-8', 'replace'))
            leave(1)


main()
