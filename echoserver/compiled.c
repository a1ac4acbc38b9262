/* The module _echoserver: functions that are also there in Python, for those who have no compiler.
 *
 * It lies beside the package, and so is found also where the package is that of a checkout. */
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#ifndef SOURCE
#define SOURCE ""
#endif

PyObject *echo_datagrams(PyObject *, PyObject *); /* protocols/udp.c */
PyObject *scan(PyObject *, PyObject *);           /* wire/ordinary.c */
PyObject *huffman(PyObject *, PyObject *);        /* wire/huffman.c */
PyObject *decode_block(PyObject *, PyObject *);   /* wire/hpack.c */
void fill_kinds(void);
void fill_huffman(void);

static int
prepare(PyObject *module)
{
    fill_kinds();
    fill_huffman();
    if (PyModule_AddIntConstant(module, "INTERFACE", 3) < 0) /* that of config/compiled.py */
        return -1;
    return PyModule_AddStringConstant(module, "SOURCE", SOURCE); /* SHA-256 of the sources, where that was said */
}

static PyMethodDef methods[] = {
    {"decode_block", decode_block, METH_VARARGS, NULL},
    {"echo_datagrams", echo_datagrams, METH_VARARGS, NULL},
    {"huffman", huffman, METH_O, NULL},
    {"scan", scan, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, prepare},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_echoserver", NULL, 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__echoserver(void)
{
    return PyModuleDef_Init(&definition);
}
