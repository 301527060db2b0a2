/* Row images of the log: what RowsDecoder of projector/mysql/binlog/rows.py does for the events that
   servers send by the thousand. Whatever is not as it should be is left to Python (NULL without an
   error): it decodes the event again, or says what is wrong with it. */

#include "native.h"

#define COMPRESSED(kind) ((kind) >= 166 && (kind) <= 171) /* MariaDB's */
#define INSERTS(kind) ((kind) == 23 || (kind) == 30 || (kind) == 166 || (kind) == 169)
#define UPDATES(kind) ((kind) == 24 || (kind) == 31 || (kind) == 167 || (kind) == 170)
#define DELETES(kind) ((kind) == 25 || (kind) == 32 || (kind) == 168 || (kind) == 171)
#define HAS_EXTRA(kind) ((kind) == 30 || (kind) == 31 || (kind) == 32 || (kind) >= 169)

typedef struct {
    int fixed;      /* bytes, -1: a length stands before the value */
    unsigned prefix; /* bytes of that length */
    int is_nullable, is_compared;
} Column;

typedef struct {
    size_t column;
    int number;       /* bytes of a whole number, below zero: with a sign; 0: ask `read` */
    PyObject *read;   /* NULL: its hash is wanted */
} Wanted;

/* Where the values of one image are; `end` NULL: not in the image, `start` NULL: NULL. */
typedef struct {
    Bytes from, start, end; /* with and without the length before it */
} Place;

struct Decoder {
    PyObject_HEAD
    size_t columns_count, wanted_count, bitmap_size;
    Column *columns;
    Wanted *wanted;
    Place *before, *after;
    int is_comparing;
    PyObject *missing;
    PyObject *inflate; /* of compressed rows */
};

PyTypeObject *Decoder_Type;

static void
decoder_dealloc(Decoder *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);

    for (size_t i = 0; i < self->wanted_count; i++)
        Py_XDECREF(self->wanted[i].read);
    free(self->columns);
    free(self->wanted);
    free(self->before);
    free(self->after);
    Py_XDECREF(self->missing);
    Py_XDECREF(self->inflate);
    PyObject_Free(self);
    Py_DECREF((PyObject *)type);
}

static inline int
has_bit(Bytes bits, size_t number)
{
    return bits[number / 8] >> (number % 8) & 1;
}

static inline uint64_t
little_endian(Bytes at, unsigned size)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < size; i++)
        number |= (uint64_t)at[i] << (8 * i);
    return number;
}

/* Step through an image; NULL where it is longer than what is there. */
static Bytes
find_places(const Decoder *self, Bytes present, Bytes at, Bytes end, Place *places)
{
    Bytes nulls = at;
    size_t held = 0, bit = 0;

    for (size_t i = 0; i < self->columns_count; i++)
        held += has_bit(present, i);
    if (!held || (size_t)(end - at) < (held + 7) / 8)
        return NULL;
    at += (held + 7) / 8;
    for (size_t i = 0; i < self->columns_count; i++) {
        const Column *column = &self->columns[i];
        uint64_t size = (uint64_t)column->fixed;

        places[i].end = places[i].start = NULL;
        if (!has_bit(present, i))
            continue;
        places[i].from = places[i].end = at;
        if (has_bit(nulls, bit++) && column->is_nullable)
            continue;
        if (column->fixed < 0) {
            if ((size_t)(end - at) < column->prefix)
                return NULL;
            size = little_endian(at, column->prefix);
            at += column->prefix;
        }
        if ((uint64_t)(end - at) < size)
            return NULL;
        places[i].start = at;
        places[i].end = at += size;
    }
    return at;
}

static PyObject *
value_of(const Wanted *wanted, const Place *place)
{
    size_t size = (size_t)(place->end - place->start);
    PyObject *data, *value;

    if (wanted->number) {
        unsigned bits = 8 * (unsigned)size;
        uint64_t number = little_endian(place->start, (unsigned)size);
        if (wanted->number > 0)
            return PyLong_FromUnsignedLongLong(number);
        if (bits < 64 && number >> (bits - 1))
            number |= ~(uint64_t)0 << bits;
        return PyLong_FromLongLong((int64_t)number);
    }
    data = PyBytes_FromStringAndSize((const char *)place->start, (Py_ssize_t)size);
    if (data == NULL)
        return NULL;
    if (wanted->read == NULL) {
        Py_hash_t hash = PyObject_Hash(data);
        value = hash == -1 ? NULL : PyLong_FromSsize_t(hash);
    } else {
        value = PyObject_CallFunctionObjArgs(wanted->read, data, NULL);
    }
    Py_DECREF(data);
    return value;
}

static PyObject *
row_of(const Decoder *self, const Place *places)
{
    PyObject *row = PyTuple_New((Py_ssize_t)self->wanted_count);

    for (size_t i = 0; row != NULL && i < self->wanted_count; i++) {
        const Place *place = &places[self->wanted[i].column];
        PyObject *value = place->end == NULL ? self->missing : Py_None;

        if (place->start == NULL)
            Py_INCREF(value);
        else
            value = value_of(&self->wanted[i], place);
        if (value == NULL || PyTuple_SetItem(row, (Py_ssize_t)i, value) < 0) {
            Py_DECREF(row);
            return NULL;
        }
    }
    return row;
}

static int
append_row(const Decoder *self, const Place *places, PyObject *list)
{
    PyObject *row = row_of(self, places);
    int failed = row == NULL || PyList_Append(list, row) < 0;

    Py_XDECREF(row);
    return failed ? -1 : 0;
}

/* Whether an update left the columns that are read as they were; what is in no image may differ. */
static int
is_unchanged(const Decoder *self)
{
    for (size_t i = 0; i < self->columns_count; i++) {
        const Place *old = &self->before[i], *new = &self->after[i];
        size_t size;

        if (!self->columns[i].is_compared)
            continue;
        if (old->end == NULL || (old->start == NULL) != (new->start == NULL))
            return 0;
        size = (size_t)(old->end - old->from);
        if (size != (size_t)(new->end - new->from) || memcmp(old->from, new->from, size) != 0)
            return 0;
    }
    return 1;
}

/* The rows behind an event's bitmaps. 1: done; 0: Python is to do it, perhaps with its error. */
static int
decode_rows(const Decoder *self, int kind, Bytes at, Bytes end, Bytes present, Bytes updated,
            PyObject *before, PyObject *after, size_t *count)
{
    int is_comparing = self->is_comparing && UPDATES(kind)
                       && memcmp(present, updated, self->bitmap_size) == 0;
    PyObject *only = DELETES(kind) ? before : after;

    for (*count = 0; at < end; ++*count) {
        at = find_places(self, present, at, end, self->before);
        if (at == NULL)
            return 0;
        if (!UPDATES(kind)) {
            if (append_row(self, self->before, only) < 0)
                return 0;
            continue;
        }
        at = find_places(self, updated, at, end, self->after);
        if (at == NULL)
            return 0;
        if (is_comparing && is_unchanged(self))
            continue;
        if (append_row(self, self->before, before) < 0 || append_row(self, self->after, after) < 0)
            return 0;
    }
    return *count > 0;
}

/* Decode an event from its table id on; as `decode` of the Python. Gives NULL for what is left to
   it, never with an error set. */
PyObject *
decoder_decode(const Decoder *self, int kind, Bytes at, Bytes end, size_t *count)
{
    PyObject *before, *after, *found = NULL, *inside = NULL;
    Bytes present, updated;
    size_t extra = 0, bitmaps = self->bitmap_size * (UPDATES(kind) ? 2 : 1);

    if (!(UPDATES(kind) || DELETES(kind) || INSERTS(kind)) || end - at < 11)
        return NULL;
    at += 8;
    if (HAS_EXTRA(kind))
        extra = at[0] | at[1] << 8;
    if ((size_t)(end - at) < extra + 1 + bitmaps)
        return NULL;
    at += extra;
    if (*at >= 251 || *at != self->columns_count)
        return NULL;
    present = at + 1;
    updated = UPDATES(kind) ? present + self->bitmap_size : present;
    at = present + bitmaps;
    if (COMPRESSED(kind)) {
        inside = PyObject_CallFunction(self->inflate, "y#", at, (Py_ssize_t)(end - at));
        if (inside == NULL || !PyBytes_Check(inside)) {
            Py_XDECREF(inside);
            PyErr_Clear();
            return NULL;
        }
        at = (Bytes)PyBytes_AsString(inside);
        end = at + PyBytes_Size(inside);
    }
    before = PyList_New(0);
    after = PyList_New(0);
    if (before != NULL && after != NULL
        && decode_rows(self, kind, at, end, present, updated, before, after, count))
        found = PyTuple_Pack(2, before, after);
    Py_XDECREF(before);
    Py_XDECREF(after);
    Py_XDECREF(inside);
    PyErr_Clear();
    return found;
}

static PyObject *
decoder_decode_method(Decoder *self, PyObject *arguments)
{
    int kind;
    Py_buffer view;
    Py_ssize_t offset, end;
    size_t count = 0;
    PyObject *pair = NULL, *found;

    if (!PyArg_ParseTuple(arguments, "iy*nn:decode", &kind, &view, &offset, &end))
        return NULL;
    if (offset >= 0 && end <= view.len && offset <= end)
        pair = decoder_decode(self, kind, (Bytes)view.buf + offset, (Bytes)view.buf + end, &count);
    PyBuffer_Release(&view);
    if (pair == NULL)
        Py_RETURN_NONE;
    found = Py_BuildValue("OOn", PyTuple_GetItem(pair, 0), PyTuple_GetItem(pair, 1),
                          (Py_ssize_t)count);
    Py_DECREF(pair);
    return found;
}

/* (fixed, prefix, is_nullable, is_compared) */
static int
read_columns(Decoder *self, PyObject *said)
{
    for (size_t i = 0; i < self->columns_count; i++) {
        Column *column = &self->columns[i];
        if (!PyArg_ParseTuple(PyTuple_GetItem(said, (Py_ssize_t)i), "iIpp:column", &column->fixed,
                              &column->prefix, &column->is_nullable, &column->is_compared))
            return -1;
        if (column->fixed < -1 || column->prefix > 4) {
            PyErr_SetString(PyExc_ValueError, "a column of no known size");
            return -1;
        }
        self->is_comparing |= column->is_compared;
    }
    return 0;
}

/* (column, bytes of a whole number or 0, read or None) */
static int
read_wanted(Decoder *self, PyObject *said)
{
    for (size_t i = 0; i < self->wanted_count; i++) {
        Wanted *wanted = &self->wanted[i];
        PyObject *read;
        Py_ssize_t column;

        if (!PyArg_ParseTuple(PyTuple_GetItem(said, (Py_ssize_t)i), "niO:wanted", &column,
                              &wanted->number, &read))
            return -1;
        if (column < 0 || (size_t)column >= self->columns_count
            || (wanted->number && abs(wanted->number) != self->columns[column].fixed)) {
            PyErr_SetString(PyExc_ValueError, "a column that is not there");
            return -1;
        }
        wanted->column = (size_t)column;
        if (read != Py_None) {
            Py_INCREF(read);
            wanted->read = read;
        }
    }
    return 0;
}

static PyObject *
decoder_new(PyTypeObject *type, PyObject *arguments, PyObject *Py_UNUSED(names))
{
    PyObject *columns, *wanted, *missing, *inflate;
    Decoder *self;

    if (!PyArg_ParseTuple(arguments, "O!O!OO:Decoder", &PyTuple_Type, &columns, &PyTuple_Type,
                          &wanted, &missing, &inflate))
        return NULL;
    self = (Decoder *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    Py_INCREF(missing);
    self->missing = missing;
    Py_INCREF(inflate);
    self->inflate = inflate;
    self->columns_count = (size_t)PyTuple_Size(columns);
    self->bitmap_size = (self->columns_count + 7) / 8;
    self->columns = calloc(self->columns_count + 1, sizeof(Column));
    self->before = calloc(self->columns_count + 1, sizeof(Place));
    self->after = calloc(self->columns_count + 1, sizeof(Place));
    self->wanted = calloc((size_t)PyTuple_Size(wanted) + 1, sizeof(Wanted));
    if (!self->columns || !self->before || !self->after || !self->wanted) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->wanted_count = (size_t)PyTuple_Size(wanted);
    if (read_columns(self, columns) < 0 || read_wanted(self, wanted) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef decoder_methods[] = {
    {"decode", (PyCFunction)decoder_decode_method, METH_VARARGS,
     "Give images before and after, and the number of rows; None: Python is to do it."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot decoder_slots[] = {
    {Py_tp_doc, "Rows of one table map."},
    {Py_tp_new, decoder_new},
    {Py_tp_dealloc, decoder_dealloc},
    {Py_tp_methods, decoder_methods},
    {0, NULL},
};

static PyType_Spec decoder_spec = {
    "projector._native.Decoder", sizeof(Decoder), 0, Py_TPFLAGS_DEFAULT, decoder_slots,
};

int
rows_ready(PyObject *module)
{
    Decoder_Type = (PyTypeObject *)PyType_FromSpec(&decoder_spec);
    if (Decoder_Type == NULL)
        return -1;
    return PyModule_AddObjectRef(module, "Decoder", (PyObject *)Decoder_Type);
}
