/* The answers to a text of statements, taken apart as their bytes come in.

   MySQL internals manual, "Protocol::COM_QUERY Response", without CLIENT_DEPRECATE_EOF: for each
   statement OK, ERR, or the number of columns, a definition of each, EOF, rows, EOF. A packet of
   16 MiB goes on in the next one. */

#include "native.h"

#define LARGEST_PACKET 0xFFFFFFu
#define MORE_RESULTS 8
#define DEFINITION 5

/* What `feed` says; projector/mysql/results.py knows the numbers. */
enum { WANTS_MORE, WHOLE, REFUSED, TOO_MUCH, BROKEN };

typedef enum { FIRST, DEFINITIONS, DEFINITIONS_END, ROWS } Stage;

typedef struct {
    PyObject_HEAD
    uint8_t head[4];
    unsigned head_size;
    int is_inside;      /* a packet has begun */
    size_t left;        /* bytes of it that are still to come */
    int goes_on;        /* the packet before was full */
    uint8_t number;     /* of the next packet */
    int is_limited;
    uint64_t room;
    Stage stage;
    size_t columns;     /* whose definitions are still to come */
    Buffer packet;      /* what is no row */
    size_t row_start;
    int status;
    int said;           /* how it ended */
    Rows *rows;
    PyObject *found;
} Results;

PyTypeObject *Rows_Type;

int
buffer_grow(Buffer *buffer, size_t more)
{
    size_t room = buffer->room ? buffer->room : 512;
    uint8_t *data;

    if (more > SIZE_MAX / 4 - buffer->size)
        return -1;
    while (room - buffer->size < more)
        room *= 2;
    data = realloc(buffer->data, room);
    if (data == NULL)
        return -1;
    buffer->data = data;
    buffer->room = room;
    return 0;
}

void
buffer_free(Buffer *buffer)
{
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

/* Give back what was reserved in vain: rows may be kept for long. */
static void
buffer_trim(Buffer *buffer)
{
    uint8_t *data;

    if (buffer->size == 0) {
        buffer_free(buffer);
    } else if (buffer->room - buffer->size > buffer->size / 8
               && (data = realloc(buffer->data, buffer->size)) != NULL) {
        buffer->data = data;
        buffer->room = buffer->size;
    }
}

static int
out_of_memory(void)
{
    PyErr_NoMemory();
    return -1;
}

/* Read a length-encoded number. False where it is cut off, NULL, or longer than it need be. */
static int
read_length(Bytes *at, Bytes end, uint64_t *length)
{
    unsigned bytes;
    uint8_t first;

    if (*at == end)
        return 0;
    first = *(*at)++;
    if (first < 251) {
        *length = first;
        return 1;
    }
    bytes = first == 252 ? 2 : first == 253 ? 3 : first == 254 ? 8 : 0;
    if (!bytes || (size_t)(end - *at) < bytes)
        return 0;
    *length = 0;
    for (unsigned i = 0; i < bytes; i++)
        *length |= (uint64_t)*(*at)++ << (8 * i);
    return *length > (bytes == 2 ? 250u : bytes == 3 ? 0xFFFFu : 0xFFFFFFu);
}

/* Whether a row consists of so many columns and nothing else. */
static int
is_row(Bytes at, Bytes end, size_t columns)
{
    for (; columns; columns--) {
        uint64_t length = 0;
        if (at < end && *at == 251) {
            at++;
            continue;
        }
        if (!read_length(&at, end, &length) || (uint64_t)(end - at) < length)
            return 0;
        at += length;
    }
    return at == end;
}

static PyObject *
results_new(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
    static char *keywords[] = {"room", NULL};
    long long room;
    Results *self;

    if (!PyArg_ParseTupleAndKeywords(arguments, names, "L:Results", keywords, &room))
        return NULL;
    self = (Results *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->number = 1;
    self->is_limited = room >= 0;
    self->room = room >= 0 ? (uint64_t)room : 0;
    self->found = PyList_New(0);
    if (self->found == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
results_dealloc(Results *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);

    buffer_free(&self->packet);
    Py_XDECREF((PyObject *)self->rows);
    Py_XDECREF(self->found);
    PyObject_Free(self);
    Py_DECREF((PyObject *)type);
}

static Rows *
new_rows(size_t columns)
{
    Rows *rows = (Rows *)PyType_GenericAlloc(Rows_Type, 0);

    if (rows != NULL) {
        rows->columns = columns;
        Py_INCREF(Py_None);
        rows->promises = Py_None;
    }
    return rows;
}

static int
begin_rows(Results *self, size_t columns)
{
    self->rows = new_rows(columns);
    if (self->rows == NULL)
        return -1;
    self->columns = columns;
    self->stage = DEFINITIONS;
    return 0;
}

/* A statement's answer is whole: `value` is what it gave, and the status says if more follow. */
static int
end_answer(Results *self, PyObject *value, Bytes status)
{
    self->status = status[0] | status[1] << 8;
    self->stage = FIRST;
    if (!(self->status & MORE_RESULTS))
        self->said = WHOLE;
    return PyList_Append(self->found, value);
}

static int
take_first(Results *self, Bytes at, Bytes end)
{
    uint64_t length;

    if (at < end && *at == 0) { /* OK: rows affected, last id, status, warnings */
        at++;
        if (!read_length(&at, end, &length) || !read_length(&at, end, &length) || end - at < 4) {
            self->said = BROKEN;
            return 0;
        }
        return end_answer(self, Py_None, at);
    }
    if (!read_length(&at, end, &length) || at != end || !length || length > 4096) {
        self->said = BROKEN;
        return 0;
    }
    return begin_rows(self, (size_t)length);
}

/* A definition ends with character set, length, type, flags, decimals and two bytes of nothing
   ("Protocol::ColumnDefinition41"). */
static int
take_definition(Results *self, Bytes at, Bytes end)
{
    uint8_t told[DEFINITION];

    if (end - at < 13) {
        self->said = BROKEN;
        return 0;
    }
    told[0] = end[-12];
    told[1] = end[-11];
    told[2] = end[-6];
    told[3] = end[-5];
    told[4] = end[-4];
    if (buffer_put(&self->rows->definitions, told, DEFINITION) < 0)
        return out_of_memory();
    if (--self->columns == 0)
        self->stage = DEFINITIONS_END;
    return 0;
}

static int
is_end(Bytes at, size_t size)
{
    return size >= 5 && size < 9 && at[0] == 0xFE;
}

static int
take_row(Results *self)
{
    Rows *rows = self->rows;
    Bytes at = rows->bytes.data + self->row_start;
    size_t size = rows->bytes.size - self->row_start;
    int failed;

    if (is_end(at, size)) {
        uint8_t status[2] = {at[3], at[4]};
        rows->bytes.size = self->row_start;
        buffer_trim(&rows->bytes);
        buffer_trim(&rows->ends);
        self->rows = NULL;
        failed = end_answer(self, (PyObject *)rows, status);
        Py_DECREF((PyObject *)rows);
        return failed;
    }
    if (size && at[0] == 0xFF) {
        self->said = REFUSED;
        return buffer_put(&self->packet, at, size) < 0 ? out_of_memory() : 0;
    }
    if (!is_row(at, at + size, rows->columns)) {
        self->said = BROKEN;
        return 0;
    }
    self->row_start = rows->bytes.size;
    return buffer_put(&rows->ends, &self->row_start, sizeof(size_t)) < 0 ? out_of_memory() : 0;
}

/* A whole packet has come. */
static int
take_packet(Results *self)
{
    Bytes at = self->packet.data;
    size_t size = self->packet.size;
    int failed = 0;

    if (self->stage == ROWS)
        return take_row(self);
    if (size && at[0] == 0xFF) {
        self->said = REFUSED;
        return 0;
    }
    if (size == 0)
        self->said = BROKEN;
    else if (self->stage == FIRST)
        failed = take_first(self, at, at + size);
    else if (self->stage == DEFINITIONS)
        failed = take_definition(self, at, at + size);
    else if (!is_end(at, size))
        self->said = BROKEN;
    else {
        self->stage = ROWS;
        self->row_start = 0;
    }
    self->packet.size = 0;
    return failed;
}

static void
take_head(Results *self)
{
    size_t size = self->head[0] | self->head[1] << 8 | (size_t)self->head[2] << 16;

    self->head_size = 0;
    self->is_inside = 1;
    self->left = size;
    self->goes_on = size == LARGEST_PACKET;
    if (self->head[3] != self->number++)
        self->said = BROKEN;
    else if (self->stage == ROWS && self->is_limited) {
        if (size > self->room)
            self->said = TOO_MUCH;
        self->room -= size;
    }
}

static int
take_bytes(Results *self, Bytes at, size_t size)
{
    while (self->said == WANTS_MORE && size) {
        size_t some;

        if (!self->is_inside) {
            self->head[self->head_size++] = *at++;
            size--;
            if (self->head_size == 4)
                take_head(self);
            if (!self->is_inside || self->left)
                continue;
        }
        some = self->left < size ? self->left : size;
        if (buffer_put(self->stage == ROWS ? &self->rows->bytes : &self->packet, at, some) < 0)
            return out_of_memory();
        at += some;
        size -= some;
        self->left -= some;
        if (self->left)
            break;
        self->is_inside = 0;
        if (!self->goes_on && take_packet(self) < 0)
            return -1;
    }
    if (size && self->said == WHOLE)
        self->said = BROKEN; /* nobody has asked for more */
    return 0;
}

static PyObject *
results_feed(Results *self, PyObject *argument)
{
    Py_buffer view;
    int failed;

    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    failed = take_bytes(self, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return failed ? NULL : PyLong_FromLong(self->said);
}

static PyObject *
results_found(Results *self, void *Py_UNUSED(closure))
{
    Py_INCREF(self->found);
    return self->found;
}

static PyObject *
results_status(Results *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->status);
}

static PyObject *
results_refusal(Results *self, void *Py_UNUSED(closure))
{
    return PyBytes_FromStringAndSize((const char *)self->packet.data,
                                     (Py_ssize_t)self->packet.size);
}

static PyMethodDef results_methods[] = {
    {"feed", (PyCFunction)results_feed, METH_O, "Take bytes as they come; say how it stands."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef results_attributes[] = {
    {"found", (getter)results_found, NULL, "An entry a statement: Rows, None without any.", NULL},
    {"status", (getter)results_status, NULL, "The server's status after the last.", NULL},
    {"refusal", (getter)results_refusal, NULL, "The packet that refuses a statement.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot results_slots[] = {
    {Py_tp_doc, "The answers to a text of statements, taken apart as they come."},
    {Py_tp_new, results_new},
    {Py_tp_dealloc, results_dealloc},
    {Py_tp_methods, results_methods},
    {Py_tp_getset, results_attributes},
    {0, NULL},
};

static PyType_Spec results_spec = {
    "projector._native.Results", sizeof(Results), 0, Py_TPFLAGS_DEFAULT, results_slots,
};

static void
rows_dealloc(Rows *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);

    buffer_free(&self->bytes);
    buffer_free(&self->ends);
    buffer_free(&self->definitions);
    Py_XDECREF(self->promises);
    PyObject_Free(self);
    Py_DECREF((PyObject *)type);
}

static Py_ssize_t
rows_length(Rows *self)
{
    return (Py_ssize_t)rows_count(self);
}

/* A row as a tuple of its values' bytes. */
static PyObject *
rows_item(Rows *self, Py_ssize_t index)
{
    Bytes at, value;
    size_t size;
    PyObject *row;

    if (index < 0 || (size_t)index >= rows_count(self)) {
        PyErr_SetString(PyExc_IndexError, "no such row");
        return NULL;
    }
    at = self->bytes.data + rows_start(self, (size_t)index);
    row = PyTuple_New((Py_ssize_t)self->columns);
    for (size_t column = 0; row != NULL && column < self->columns; column++) {
        PyObject *item = Py_None;
        at = next_column(at, &value, &size);
        if (value == NULL)
            Py_INCREF(item);
        else
            item = PyBytes_FromStringAndSize((const char *)value, (Py_ssize_t)size);
        if (item == NULL || PyTuple_SetItem(row, (Py_ssize_t)column, item) < 0) {
            Py_DECREF(row);
            return NULL;
        }
    }
    return row;
}

static PyObject *
rows_definitions(Rows *self, void *Py_UNUSED(closure))
{
    return PyBytes_FromStringAndSize((const char *)self->definitions.data,
                                     (Py_ssize_t)self->definitions.size);
}

static PyObject *
rows_promises(Rows *self, void *Py_UNUSED(closure))
{
    Py_INCREF(self->promises);
    return self->promises;
}

static int
rows_set_promises(Rows *self, PyObject *value, void *Py_UNUSED(closure))
{
    PyObject *before = self->promises;

    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "promises cannot be deleted");
        return -1;
    }
    Py_INCREF(value);
    self->promises = value;
    Py_DECREF(before);
    return 0;
}

static int
put_length(Buffer *out, size_t length)
{
    uint8_t head[9];
    unsigned bytes = length < 251 ? 0 : length <= 0xFFFF ? 2 : length <= 0xFFFFFF ? 3 : 8;

    head[0] = bytes == 0 ? (uint8_t)length : bytes == 2 ? 252 : bytes == 3 ? 253 : 254;
    for (unsigned i = 0; i < bytes; i++)
        head[1 + i] = (uint8_t)((uint64_t)length >> (8 * i));
    return buffer_put(out, head, 1 + bytes);
}

/* Forms of PostgreSQL's texts; the Python that it stands for is in postgres/results.py. */
enum { AS_IT_IS, BOOLEAN, MOMENT, MOMENT_OF_ZONE, BY_PYTHON };

static int
put_moment(Buffer *out, Bytes at, size_t size)
{
    int is_odd = size < 5 || at[4] != '-' || at[size - 1] == 'C';

    if (put_length(out, size + (is_odd ? 1 : 0)) < 0)
        return -1;
    return (is_odd && buffer_put_byte(out, '!') < 0) ? -1 : buffer_put(out, at, size);
}

static int
put_value(Buffer *out, int form, Bytes at, size_t size)
{
    if (form == BOOLEAN) {
        int is_true = size == 1 && at[0] == 't';
        return put_length(out, 1) < 0 ? -1 : buffer_put_byte(out, is_true ? '1' : '0');
    }
    if (form == MOMENT_OF_ZONE && size >= 3 && !memcmp(at + size - 3, "+00", 3))
        size -= 3;
    if (form == MOMENT || form == MOMENT_OF_ZONE)
        return put_moment(out, at, size);
    return put_length(out, size) < 0 ? -1 : buffer_put(out, at, size);
}

/* -1 with an exception. `fix`: a form's number, or what Python brings a value into form by. */
static int
put_item(Buffer *out, PyObject *item, int form, PyObject *fix)
{
    char *data;
    Py_ssize_t size;
    PyObject *fixed = NULL;
    int outcome = -1;

    if (item == Py_None)
        return buffer_put_byte(out, 251) < 0 ? out_of_memory() : 0;
    if (form == BY_PYTHON) {
        fixed = PyObject_CallFunctionObjArgs(fix, item, NULL);
        if (fixed == NULL)
            return -1;
        item = fixed;
    }
    if (PyBytes_AsStringAndSize(item, &data, &size) == 0)
        outcome = put_value(out, form, (Bytes)data, (size_t)size) < 0 ? out_of_memory() : 0;
    Py_XDECREF(fixed);
    return outcome;
}

static int
put_row(Rows *rows, PyObject *row, PyObject *fixes, const int *forms)
{
    size_t end;

    if (!PyTuple_Check(row) || (size_t)PyTuple_Size(row) != rows->columns) {
        PyErr_SetString(PyExc_TypeError, "a row is a tuple of a value for each column");
        return -1;
    }
    for (size_t column = 0; column < rows->columns; column++)
        if (put_item(&rows->bytes, PyTuple_GetItem(row, (Py_ssize_t)column), forms[column],
                     PyTuple_GetItem(fixes, (Py_ssize_t)column)) < 0)
            return -1;
    end = rows->bytes.size;
    return buffer_put(&rows->ends, &end, sizeof(size_t)) < 0 ? out_of_memory() : 0;
}

static int *
forms_of(PyObject *fixes)
{
    Py_ssize_t count = PyTuple_Size(fixes);
    int *forms = malloc((count ? (size_t)count : 1) * sizeof(int));

    if (forms == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t column = 0; column < count; column++) {
        PyObject *fix = PyTuple_GetItem(fixes, column);
        forms[column] = PyLong_Check(fix) ? (int)PyLong_AsLong(fix) : BY_PYTHON;
        if (forms[column] < AS_IT_IS || forms[column] > BY_PYTHON) {
            PyErr_SetString(PyExc_ValueError, "no such form");
            free(forms);
            return NULL;
        }
    }
    return forms;
}

static PyObject *
rows_of(PyObject *Py_UNUSED(nothing), PyObject *arguments)
{
    PyObject *list, *fixes;
    Rows *rows;
    int *forms;

    if (!PyArg_ParseTuple(arguments, "OO", &list, &fixes))
        return NULL;
    if (!PyList_Check(list) || !PyTuple_Check(fixes)) {
        PyErr_SetString(PyExc_TypeError, "rows are a list, forms a tuple");
        return NULL;
    }
    forms = forms_of(fixes);
    if (forms == NULL)
        return NULL;
    rows = new_rows((size_t)PyTuple_Size(fixes));
    /* the size each time: Python may be called */
    for (Py_ssize_t index = 0; rows != NULL && index < PyList_Size(list); index++) {
        PyObject *row = PyList_GetItem(list, index);
        Py_INCREF(row);
        if (put_row(rows, row, fixes, forms) < 0) {
            Py_DECREF((PyObject *)rows);
            rows = NULL;
        }
        Py_DECREF(row);
    }
    free(forms);
    return (PyObject *)rows;
}

static PyMethodDef rows_methods[] = {
    {"of", rows_of, METH_VARARGS | METH_STATIC,
     "Rows of tuples of bytes or None. For each column what brings a value into form: 0 nothing,\n"
     "1 boolean, 2 moment, 3 moment_of_zone, or a callable."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef rows_attributes[] = {
    {"definitions", (getter)rows_definitions, NULL,
     "Five bytes a column: character set, type, flags.", NULL},
    {"promises", (getter)rows_promises, (setter)rows_set_promises,
     "What the server promises of the columns.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot rows_slots[] = {
    {Py_tp_doc, "The rows of a result, as the server sent them; a sequence of tuples of bytes."},
    {Py_tp_dealloc, rows_dealloc},
    {Py_tp_methods, rows_methods},
    {Py_tp_getset, rows_attributes},
    {Py_sq_length, rows_length},
    {Py_sq_item, rows_item},
    {0, NULL},
};

static PyType_Spec rows_spec = {
    "projector._native.Rows", sizeof(Rows), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, rows_slots,
};

int
results_ready(PyObject *module)
{
    PyObject *results = PyType_FromSpec(&results_spec);

    Rows_Type = (PyTypeObject *)PyType_FromSpec(&rows_spec);
    if (results == NULL || Rows_Type == NULL)
        return -1;
    if (PyModule_AddObjectRef(module, "Results", results) < 0)
        return -1;
    Py_DECREF(results);
    return PyModule_AddObjectRef(module, "Rows", (PyObject *)Rows_Type);
}
