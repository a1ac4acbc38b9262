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
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <zlib.h>
#include "modules.h"

static void check(PyStatus status)
{
    if (PyStatus_Exception(status)) Py_ExitStatusException(status);
}

/* musl gives a block of some KB back to the kernel as soon as it is freed, and gets it anew, page by page, for the next
 * answer. So a few freed blocks of each size are kept: of 1 KiB to 256 KiB, eight sizes to each doubling; at most KEPT
 * bytes in all. Smaller ones are pymalloc's, larger ones the server keeps itself. No process forks while another of its
 * threads may hold the lock: the supervisor has none. */
enum { LEAST = 10, MOST = 18, SIZES = (MOST - LEAST) * 8 + 1, A_SIZE = 4, KEPT = 1 << 20 };

static struct kept { int count; void *block[A_SIZE]; } kept[SIZES];
static size_t kept_bytes;
static atomic_flag busy = ATOMIC_FLAG_INIT; /* raw memory is taken without the GIL too */
static PyMemAllocatorEx plain;

static size_t size_of(int index) { return ((size_t)8 + index % 8) << (LEAST - 3 + index / 8); }

static int index_below(size_t size) /* of the largest size that is no larger */
{
    int doublings = 8 * sizeof size - 1 - __builtin_clzl(size);
    return (doublings - LEAST) * 8 + (int)(size >> (doublings - 3)) - 8;
}

static void *take(void *context, size_t size)
{
    (void)context;
    if (size < 1 << LEAST || size > 1 << MOST) return plain.malloc(plain.ctx, size);
    int index = index_below(size - 1) + 1;
    void *block = NULL;
    while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire)) sched_yield();
    if (kept[index].count) block = kept[index].block[--kept[index].count], kept_bytes -= size_of(index);
    atomic_flag_clear_explicit(&busy, memory_order_release);
    return block ? block : plain.malloc(plain.ctx, size_of(index));
}

static void give(void *context, void *block)
{
    (void)context;
    size_t size = block ? malloc_usable_size(block) : 0;
    int index = size >= 1 << LEAST && size <= 1 << MOST ? index_below(size) : -1;
    if (index >= 0 && size == size_of(index)) { /* what realloc() has made fits no size */
        while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire)) sched_yield();
        if (kept[index].count < A_SIZE && kept_bytes + size_of(index) <= KEPT) {
            kept[index].block[kept[index].count++] = block, kept_bytes += size_of(index);
            block = NULL;
        }
        atomic_flag_clear_explicit(&busy, memory_order_release);
    }
    plain.free(plain.ctx, block);
}

static void keep_blocks(void)
{
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &plain);
    PyMemAllocatorEx keeping = plain;
    keeping.malloc = take, keeping.free = give;
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &keeping);
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
    keep_blocks();

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
    config.code_debug_ranges = 0; /* freeze.py: line numbers without columns, for there is no source to point into */
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
    if (inflate_modules()) return fputs("echoserver: its modules can't be inflated: too little memory?\n", stderr), 1;
    start_python(argc, argv);
    int code = run(argc, argv);
    return Py_FinalizeEx() < 0 && !code ? 1 : code;
}
