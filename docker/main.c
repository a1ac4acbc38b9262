/* The process's main(): a Python that has all its modules in itself, and runs echoserver and nothing else.
 *
 * The modules are one deflated block (modules.S, made by freeze.py): inflating it takes 7 ms, once, and then they are
 * ordinary frozen modules; a zip file that is imported from takes 50 ms more to start. Which modules it holds, and which
 * of those written in C are linked, is in modules.c. Nothing is read from the file system, and PYTHON* variables change
 * nothing.
 *
 * With -DCONSOLE it runs the Python file that its first argument names instead, with modules from the folders in
 * CONSOLE_PATH besides: to find the modules, and for tests. */
#include <Python.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <zlib.h>
#include "modules.h"

static void check(PyStatus status)
{
    if (PyStatus_Exception(status)) Py_ExitStatusException(status);
}

static int inflate_modules(void)
{
    uLongf size = modules_size;
    if (!size) return 0;
    unsigned char *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED || uncompress(block, &size, modules_deflated, modules_deflated_size) != Z_OK) return -1;
    mprotect(block, size, PROT_READ);
    for (struct _frozen *module = modules_frozen; module->name; module++) module->code = block + (size_t)module->code;
    PyImport_FrozenModules = modules_frozen;
    return 0;
}

static void start_python(int argc, char **argv)
{
    PyPreConfig before;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    check(Py_PreInitialize(&before));

    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.parse_argv = 0;
    config.optimization_level = 2;
    config.write_bytecode = 0;
    config.pathconfig_warnings = 0;
    config.use_frozen_modules = 1;
    config.install_signal_handlers = 1;
    config.module_search_paths_set = 1;
    check(PyConfig_SetBytesString(&config, &config.program_name, "echoserver"));
    wchar_t **folders[] = {&config.executable, &config.base_executable, &config.home, &config.prefix,
                           &config.base_prefix, &config.exec_prefix, &config.base_exec_prefix};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) check(PyConfig_SetString(&config, folders[i], L""));
#ifdef CONSOLE
    argc--, argv++;
    char *path = getenv("CONSOLE_PATH"), *folder;
    for (path = path ? strdup(path) : NULL; (folder = strsep(&path, ":"));)
        check(PyWideStringList_Append(&config.module_search_paths, Py_DecodeLocale(folder, NULL)));
#endif
    check(PyConfig_SetBytesArgv(&config, argc, argv));
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
}

#ifdef CONSOLE
static int run(int argc, char **argv)
{
    FILE *file = argc > 1 ? fopen(argv[1], "r") : NULL;
    if (!file) return fputs("usage: console FILE.py [ARGUMENTS]\n", stderr), 2;
    return PyRun_SimpleFileEx(file, argv[1], 1) ? 1 : 0;
}
#else
static int run(int argc, char **argv)
{
    (void)argc, (void)argv;
    PyObject *module = PyImport_ImportModule("echoserver.cli");
    PyObject *result = module ? PyObject_CallMethod(module, "main", NULL) : NULL;
    if (!result) return PyErr_Print(), 1; /* does not return from a SystemExit */
    return (int)PyLong_AsLong(result);
}
#endif

int main(int argc, char **argv)
{
    if (inflate_modules()) return fputs("echoserver: out of memory\n", stderr), 1;
    start_python(argc, argv);
    int code = run(argc, argv);
    return Py_FinalizeEx() < 0 && !code ? 1 : code;
}
