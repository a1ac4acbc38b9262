/* CPython's own frozen modules, without those that are not needed before the block in modules.S can be used: stands in
 * for Python/frozen.c, as modules.c (made by freeze.py) does for Modules/config.c. */
#include <Python.h>
#include "pycore_import.h"
#include "frozen_modules/importlib._bootstrap.h"
#include "frozen_modules/importlib._bootstrap_external.h"

static const struct _frozen bootstrap[] = {
    {"_frozen_importlib", _Py_M__importlib__bootstrap, (int)sizeof _Py_M__importlib__bootstrap, 0},
    {"_frozen_importlib_external", _Py_M__importlib__bootstrap_external,
     (int)sizeof _Py_M__importlib__bootstrap_external, 0},
    {0},
};
static const struct _frozen none[] = {{0}};
static const struct _module_alias aliases[] = {
    {"_frozen_importlib", "importlib._bootstrap"},
    {"_frozen_importlib_external", "importlib._bootstrap_external"},
    {0},
};

const struct _frozen *_PyImport_FrozenBootstrap = bootstrap, *_PyImport_FrozenStdlib = none, *_PyImport_FrozenTest = none;
const struct _module_alias *_PyImport_FrozenAliases = aliases;
const struct _frozen *PyImport_FrozenModules;
