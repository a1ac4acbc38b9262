"""Makes a folder's modules part of the executable: console freeze.py FOLDER NAMES TO [BUILT_IN ...]

NAMES is what trace.py wrote. Modules of the folder are compiled and deflated as one block: TO/modules.c, .S, .block.
Those written in C go into the table of built-in modules, which is all that makes the linker take them. BUILT_IN are C
modules that are linked from elsewhere (uvloop.loop, ...). TO/modules.json says what is in it, in bytes. Must be run by
the very Python that it is for: marshal's format is that version's.
"""

import json
import marshal
import os
import sys

_CORE = {  # modules of the core have no init function, or one of another name
    "builtins": None, "sys": None, "marshal": "PyMarshal_Init", "_warnings": "_PyWarnings_Init",
}  # fmt: skip
_BOOTSTRAP = {  # the two that CPython asks for by another name, because it can't import yet
    "importlib._bootstrap": "_frozen_importlib", "importlib._bootstrap_external": "_frozen_importlib_external",
}  # fmt: skip
_UNUSED = {"zipimport"}  # CPython asks for it at its start, and goes on without


def _source(folder, name):
    path = f"{folder}/{name.replace('.', '/')}"
    for file, package in ((f"{path}/__init__.py", True), (f"{path}.py", False)):
        if os.path.exists(file):
            return file, package
    return None, False


def _compiled(name, file, folder):
    shown = f"<frozen {name}>" if name in _BOOTSTRAP else file.removeprefix(f"{folder}/")  # so tracebacks leave it out
    with open(file, encoding="utf-8") as source:
        return marshal.dumps(compile(source.read(), shown, "exec", dont_inherit=True, optimize=2))


def main(folder, names, to, *linked):
    with open(names) as file:
        wanted = sorted({*file.read().split(), *_BOOTSTRAP} - _UNUSED)
    table, built_in, sizes, block = [], set(linked), {}, b""
    for name in wanted:
        file, package = _source(folder, name)
        if file:
            code = _compiled(name, file, folder)
            sizes[name] = len(code)
            asked = _BOOTSTRAP.get(name, name)
            table.append(f'{{"{asked}", (const unsigned char *){len(block)}, {len(code)}, {int(package)}}},')
            block += code
        elif name in sys.builtin_module_names:
            built_in.add(name)
    with open(f"{to}/modules.block", "wb") as file:
        file.write(block)
    if os.spawnlp(os.P_WAIT, "zopfli", "zopfli", "--zlib", f"{to}/modules.block"):  # 3 % smaller than zlib's own best
        sys.exit("freeze.py: zopfli failed, or is not installed")
    deflated = os.stat(f"{to}/modules.block.zlib").st_size
    inits = {name: _CORE.get(name, f"PyInit_{name.rpartition('.')[2]}") for name in sorted(built_in | set(_CORE))}
    with open(f"{to}/modules.c", "w") as file:
        file.write('#include <Python.h>\n#include "modules.h"\n')
        file.writelines(f"extern PyObject *{init}(void);\n" for init in inits.values() if init)
        rows = "\n".join(f'{{"{name}", {init or "NULL"}}},' for name, init in inits.items())
        file.write(f"struct _inittab _PyImport_Inittab[] = {{\n{rows}\n{{0, 0}}}};\n")
        file.write("struct _frozen modules_frozen[] = {\n" + "\n".join(table) + "\n{0}};\n")
        file.write(f"const unsigned long modules_size = {len(block)}, modules_deflated_size = {deflated};\n")
    with open(f"{to}/modules.S", "w") as file:
        file.write(".section .rodata\n.globl modules_deflated\nmodules_deflated:\n")
        file.write(f'.incbin "{to}/modules.block.zlib"\n.section .note.GNU-stack,"",@progbits\n')
    with open(f"{to}/modules.json", "w") as file:
        json.dump({"deflated": deflated, "built_in": [*inits], "modules": sizes}, file, indent=1)
    print(f"{len(sizes)} modules of {len(block):,} bytes, deflated {deflated:,}; {len(inits)} in C")


main(*sys.argv[1:])
