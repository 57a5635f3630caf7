/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etagd._watch: what notes the reads of a request, where requests pass most often. Each object here
* is in the way of something that Django does a dozen times for every request, hit or not: a
 * field of an instance, the rows of a queryset, request.META. Almost always there is nothing to
 * note: the instance was read by this very request, the key of META is no field. That is seen here;
 * everything else is Python's to judge, as if nothing here came before it.
 *
 *   Field      an attribute of a model that is one of its columns
 *   Rows       QuerySet._result_cache
 *   Meta       request.META
 *
 * Threads: the GIL's. No state but the names of attributes: a context variable is the caller's, as
 * interpreters of one process have different ones.
 */
#define Py_LIMITED_API 0x030a0000
#include <Python.h>

/* CPython exports them from 3.9 on; its headers show them to no module of the stable ABI. */
extern int PyContextVar_Get(PyObject *var, PyObject *fallback, PyObject **value);
extern PyObject *PyObject_GenericGetDict(PyObject *object, void *context);
#ifndef METH_FASTCALL
#define METH_FASTCALL 0x0080
#endif

enum name {
    NAME_MARK,
    NAME_STATE,
    NAME_OF_INSTANCE,
    NAME_ROWS,
    NAME_GET,
    NAME_SET,
    NAME_QUIET,
    NAME_NOTE,
    NAMES,
};

/* Made once, and there for good. */
static PyObject *names[NAMES];

static int names_make(void)
{
    static const char *const texts[NAMES] = {"mark",    "_state",  "_etagd_mark", "_result_cache",
                                             "__get__", "__set__", "quiet",       "_note"};

    for (int i = 0; i < NAMES; i++) {
        if (!names[i])
            names[i] = PyUnicode_InternFromString(texts[i]);
        if (!names[i])
            return -1;
    }
    return 0;
}

/* ---- Whose is it? ---- */

/* Borrowed; NULL without an exception: it is not there. */
static PyObject *dict_find(PyObject *dict, PyObject *key)
{
    return PyDict_GetItemWithError(dict, key);
}

/* Does what has this mark belong to the request that runs, or does none run? -1: an exception.
 * A mark is one number of Python's from its request on, so it is the same object. */
static int is_own(PyObject *noted, PyObject *mark)
{
    if (noted == Py_None)
        return 1;
    PyObject *own = PyObject_GetAttr(noted, names[NAME_MARK]);
    if (!own)
        return -1;
    const int same = own == mark;
    Py_DECREF(own);
    return same;
}

/* ---- Field ---- */

struct field {
    PyObject head;
    /* Django's own descriptor, which knows what is rare */
    PyObject *real;
    PyObject *name, *current;
    /* to set it is no more than to put it into the instance */
    int is_plain;
};

static PyObject *field_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *real, *name, *current;
    int is_plain;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OUOp", &real, &name, &current, &is_plain))
        return NULL;
    struct field *made = (struct field *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!made)
        return NULL;
    Py_INCREF(real);
    Py_INCREF(current);
    Py_INCREF(name);
    made->real = real;
    made->name = name;
    PyUnicode_InternInPlace(&made->name);
    made->current = current;
    made->is_plain = is_plain;
    return (PyObject *)made;
}

static int field_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct field *f = (struct field *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(f->real);
    Py_VISIT(f->current);
    return 0;
}

static int field_clear(PyObject *self)
{
    struct field *f = (struct field *)self;

    Py_CLEAR(f->real);
    Py_CLEAR(f->name);
    Py_CLEAR(f->current);
    return 0;
}

static void watch_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    (void)((inquiry)PyType_GetSlot(type, Py_tp_clear))(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* Is the instance of this dict the request's own? */
static int field_is_own(struct field *f, PyObject *dict)
{
    PyObject *noted, *state;

    if (PyContextVar_Get(f->current, Py_None, &noted) < 0)
        return -1;
    int own = noted == Py_None;
    if (!own && (state = dict_find(dict, names[NAME_STATE]))) {
        PyObject *mark = PyObject_GetAttr(state, names[NAME_OF_INSTANCE]);
        own = mark ? is_own(noted, mark) : -1;
        Py_XDECREF(mark);
    }
    Py_DECREF(noted);
    return own;
}

static PyObject *field_get(PyObject *self, PyObject *instance, PyObject *type)
{
    struct field *f = (struct field *)self;

    if (!instance || instance == Py_None) {
        Py_INCREF(f->real);
        return f->real;
    }
    PyObject *dict = PyObject_GenericGetDict(instance, NULL);
    if (!dict)
        return NULL;
    PyObject *value = dict_find(dict, f->name);
    int own = 0;
    if (value) {
        Py_INCREF(value);
        own = field_is_own(f, dict);
    }
    Py_DECREF(dict);
    if (own == 1)
        return value;
    Py_XDECREF(value);
    if (own < 0 || PyErr_Occurred())
        return NULL;
    return PyObject_CallMethodObjArgs(f->real, names[NAME_GET], instance,
                                      type ? type : (PyObject *)Py_TYPE(instance), NULL);
}

/* value NULL: it is deleted, so that the next look asks the database. */
static int field_set(PyObject *self, PyObject *instance, PyObject *value)
{
    struct field *f = (struct field *)self;

    if (value && !f->is_plain) {
        PyObject *made = PyObject_CallMethodObjArgs(f->real, names[NAME_SET], instance, value,
                                                    NULL);
        Py_XDECREF(made);
        return made ? 0 : -1;
    }
    PyObject *dict = PyObject_GenericGetDict(instance, NULL);
    if (!dict)
        return -1;
    const int r = value ? PyDict_SetItem(dict, f->name, value) : PyDict_DelItem(dict, f->name);
    Py_DECREF(dict);
    if (r < 0 && !value && PyErr_ExceptionMatches(PyExc_KeyError))
        PyErr_SetObject(PyExc_AttributeError, f->name);
    return r;
}

static PyType_Slot field_slots[] = {
    {Py_tp_doc, "Field(descriptor, attribute, variable, is_plain): a column of a model"},
    {Py_tp_new, (void *)field_new},
    {Py_tp_dealloc, (void *)watch_dealloc},
    {Py_tp_traverse, (void *)field_traverse},
    {Py_tp_clear, (void *)field_clear},
    {Py_tp_descr_get, (void *)field_get},
    {Py_tp_descr_set, (void *)field_set},
    {0, NULL},
};
static PyType_Spec field_spec = {
    .name = "etagd._watch.Field",
    .basicsize = sizeof(struct field),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = field_slots,
};

/* ---- Rows ---- */

struct rows {
    PyObject head;
    PyObject *current;
    /* other(queryset, noted): it was filled by another request, or by none */
    PyObject *other;
};

static PyObject *rows_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *current, *other;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OO", &current, &other))
        return NULL;
    struct rows *made = (struct rows *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!made)
        return NULL;
    Py_INCREF(current);
    Py_INCREF(other);
    made->current = current;
    made->other = other;
    return (PyObject *)made;
}

static int rows_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct rows *r = (struct rows *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(r->current);
    Py_VISIT(r->other);
    return 0;
}

static int rows_clear(PyObject *self)
{
    struct rows *r = (struct rows *)self;

    Py_CLEAR(r->current);
    Py_CLEAR(r->other);
    return 0;
}

/* Somebody looks at rows that are there. */
static int rows_looked_at(struct rows *r, PyObject *queryset, PyObject *dict)
{
    PyObject *noted;

    if (PyContextVar_Get(r->current, Py_None, &noted) < 0)
        return -1;
    PyObject *mark = dict_find(dict, names[NAME_OF_INSTANCE]);
    int own = is_own(noted, mark);
    if (own == 0) {
        PyObject *said = PyObject_CallFunctionObjArgs(r->other, queryset, noted, NULL);
        own = said ? 1 : -1;
        Py_XDECREF(said);
    }
    Py_DECREF(noted);
    return own;
}

static PyObject *rows_get(PyObject *self, PyObject *queryset, PyObject *type)
{
    (void)type;
    if (!queryset || queryset == Py_None) {
        Py_INCREF(self);
        return self;
    }
    PyObject *dict = PyObject_GenericGetDict(queryset, NULL);
    if (!dict)
        return NULL;
    PyObject *value = dict_find(dict, names[NAME_ROWS]);
    Py_XINCREF(value);
    if (!value && !PyErr_Occurred())
        PyErr_SetObject(PyExc_AttributeError, names[NAME_ROWS]);
    if (value && value != Py_None && rows_looked_at((struct rows *)self, queryset, dict) < 0)
        Py_CLEAR(value);
    Py_DECREF(dict);
    return value;
}

/* Who fills it? */
static int rows_mark(struct rows *r, PyObject *dict)
{
    PyObject *noted, *mark = Py_None;

    if (PyContextVar_Get(r->current, Py_None, &noted) < 0)
        return -1;
    if (noted == Py_None)
        Py_INCREF(mark);
    else
        mark = PyObject_GetAttr(noted, names[NAME_MARK]);
    const int s = mark ? PyDict_SetItem(dict, names[NAME_OF_INSTANCE], mark) : -1;
    Py_XDECREF(mark);
    Py_DECREF(noted);
    return s;
}

static int rows_set(PyObject *self, PyObject *queryset, PyObject *value)
{
    if (!value) {
        PyErr_SetObject(PyExc_AttributeError, names[NAME_ROWS]);
        return -1;
    }
    PyObject *dict = PyObject_GenericGetDict(queryset, NULL);
    if (!dict)
        return -1;
    int r = PyDict_SetItem(dict, names[NAME_ROWS], value);
    if (r == 0 && value != Py_None)
        r = rows_mark((struct rows *)self, dict);
    Py_DECREF(dict);
    return r;
}

static PyType_Slot rows_slots[] = {
    {Py_tp_doc, "Rows(variable, other): the rows that a queryset keeps"},
    {Py_tp_new, (void *)rows_new},
    {Py_tp_dealloc, (void *)watch_dealloc},
    {Py_tp_traverse, (void *)rows_traverse},
    {Py_tp_clear, (void *)rows_clear},
    {Py_tp_descr_get, (void *)rows_get},
    {Py_tp_descr_set, (void *)rows_set},
    {0, NULL},
};
static PyType_Spec rows_spec = {
    .name = "etagd._watch.Rows",
    .basicsize = sizeof(struct rows),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = rows_slots,
};

/* ---- Meta ---- */

/* A dict that tells _note(key) what it is asked for, unless its class has it in the set "quiet". */
static int meta_ask(PyObject *self, PyObject *key)
{
    PyObject *quiet = PyObject_GetAttr((PyObject *)Py_TYPE(self), names[NAME_QUIET]);

    if (!quiet)
        return -1;
    const int is_quiet = PySet_Contains(quiet, key);
    Py_DECREF(quiet);
    if (is_quiet)
        return is_quiet < 0 ? -1 : 0;
    PyObject *said = PyObject_CallMethodObjArgs(self, names[NAME_NOTE], key, NULL);
    Py_XDECREF(said);
    return said ? 0 : -1;
}

static PyObject *meta_item(PyObject *self, PyObject *key)
{
    if (meta_ask(self, key) < 0)
        return NULL;
    PyObject *value = dict_find(self, key);
    if (!value && !PyErr_Occurred())
        PyErr_SetObject(PyExc_KeyError, key);
    Py_XINCREF(value);
    return value;
}

static int meta_contains(PyObject *self, PyObject *key)
{
    return meta_ask(self, key) < 0 ? -1 : PyDict_Contains(self, key);
}

static PyObject *meta_get(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "get() takes a key and a default");
        return NULL;
    }
    if (meta_ask(self, args[0]) < 0)
        return NULL;
    PyObject *value = dict_find(self, args[0]);
    if (!value && PyErr_Occurred())
        return NULL;
    if (!value)
        value = count == 2 ? args[1] : Py_None;
    Py_INCREF(value);
    return value;
}

static PyMethodDef meta_methods[] = {
    {"get", (PyCFunction)(void (*)(void))meta_get, METH_FASTCALL, "As dict's."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot meta_slots[] = {
    {Py_tp_doc, "A dict that tells _note(key) what it is asked for, unless quiet has it"},
    {Py_tp_methods, meta_methods},
    {Py_mp_subscript, (void *)meta_item},
    {Py_sq_contains, (void *)meta_contains},
    {0, NULL},
};
static PyType_Spec meta_spec = {
    .name = "etagd._watch.Meta",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = meta_slots,
};

/* ---- The module ---- */

static int type_add(PyObject *module, const char *name, PyType_Spec *spec, PyTypeObject *base)
{
    PyObject *bases = base ? PyTuple_Pack(1, base) : NULL;
    PyObject *type = bases || !base ? PyType_FromSpecWithBases(spec, bases) : NULL;

    Py_XDECREF(bases);
    if (type && PyModule_AddObject(module, name, type) == 0)
        return 0;
    Py_XDECREF(type);
    return -1;
}

static int watch_exec(PyObject *module)
{
    if (names_make() < 0)
        return -1;
    if (type_add(module, "Field", &field_spec, NULL) < 0 ||
        type_add(module, "Rows", &rows_spec, NULL) < 0)
        return -1;
    return type_add(module, "Meta", &meta_spec, &PyDict_Type);
}

static PyModuleDef_Slot watch_slots[] = {
    {Py_mod_exec, (void *)watch_exec},
    {0, NULL},
};
static struct PyModuleDef watch_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "etagd._watch",
    .m_slots = watch_slots,
};

PyMODINIT_FUNC PyInit__watch(void);
PyMODINIT_FUNC PyInit__watch(void)
{
    return PyModuleDef_Init(&watch_module);
}
