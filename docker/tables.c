/* CPython's own frozen modules: none, for all are in the block in modules.S. Stands in for Python/frozen.c, as modules.c
 * (made by freeze.py) does for Modules/config.c. */
#include <Python.h>
#include "pycore_import.h"

static const struct _frozen none[] = {{0}};
static const struct _module_alias aliases[] = {
    {"_frozen_importlib", "importlib._bootstrap"},
    {"_frozen_importlib_external", "importlib._bootstrap_external"},
    {0},
};

const struct _frozen *_PyImport_FrozenBootstrap = none, *_PyImport_FrozenStdlib = none, *_PyImport_FrozenTest = none;
const struct _module_alias *_PyImport_FrozenAliases = aliases;
const struct _frozen *PyImport_FrozenModules;
