/* Whole plain transactions out of the log's bytes: what the handlers of
   projector/mysql/binlog/transactions.py do for the ones that make up nearly all of a log.

   A plain transaction is a GTID, a BEGIN (MySQL), table maps that are known, rows, and an Xid. Before
   the first one that has anything else the scanner stops, and Python takes it event by event. */

#include "native.h"

#define PACKET_HEADER 4
#define EVENT_HEADER 19
#define FULL_PACKET 0xFFFFFFu
#define GTID_BODY 50       /* with a commit time */
#define MARIADB_GTID_BODY 13
#define PLACES 1024        /* for table maps; a power of two */
#define TABLES_MAX 16      /* of one transaction */

enum { QUERY = 2, XID = 16, TABLE_MAP = 19, GTID = 33, PAYLOAD = 40, MARIADB_GTID = 162 };

/* Fields of a compressed transaction's head, and the one way of compressing that is known. */
enum { HEAD_END, COMPRESSION = 2, SIZE = 3, ZSTD = 0 };

#define LARGEST_INSIDE (1 << 20)

typedef struct {
    PyObject *body;     /* of the table map: bytes; NULL: a free place */
    PyObject *id;       /* the first bytes of it */
    PyObject *watched;  /* what Python knows of the table; None: nobody watches it */
    PyObject *table, *decoder;
} Known;

typedef struct {
    PyObject_HEAD
    Known *known;
    size_t known_count;
    uint8_t ignored[256]; /* event types that nobody takes */
    PyObject *kinds;      /* a tuple: the kind of change by event type, None */
    PyObject *change;     /* the type RowsChange */
    PyObject *inflate;    /* of compressed transactions */
    unsigned shown;       /* flags of rows whose consequences are in the log */
    int is_mariadb;
    Py_ssize_t most;      /* rows of a transaction that is given out as a whole */
} Scanner;

/* One event: from its header to its end without checksum. */
typedef struct {
    Bytes at, end, next;
    uint8_t kind;
} Event;

/* What a run of transactions comes to. */
typedef struct {
    Bytes sid;
    uint64_t first, next; /* numbers of GTIDs */
    uint64_t sequence;
    uint32_t domain, server, end_pos, first_end;
    double committed_at;
    size_t rows;
    PyObject *changes, *times;
    PyObject *watched_by_id; /* Python's, kept as if it had taken the table maps */
} Run;

static uint32_t CRC_TABLES[8][256];

static void
make_crc_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
        CRC_TABLES[0][i] = crc;
    }
    for (int table = 1; table < 8; table++)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t crc = CRC_TABLES[table - 1][i];
            CRC_TABLES[table][i] = crc >> 8 ^ CRC_TABLES[0][crc & 0xFF];
        }
}

static uint32_t
number_at(Bytes at)
{
    return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t
long_at(Bytes at)
{
    return number_at(at) | (uint64_t)number_at(at + 4) << 32;
}

static uint32_t
crc32_of(Bytes at, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;

    for (; size >= 8; size -= 8, at += 8) {
        uint32_t low = number_at(at) ^ crc, high = number_at(at + 4);
        crc = CRC_TABLES[7][low & 0xFF] ^ CRC_TABLES[6][low >> 8 & 0xFF]
            ^ CRC_TABLES[5][low >> 16 & 0xFF] ^ CRC_TABLES[4][low >> 24]
            ^ CRC_TABLES[3][high & 0xFF] ^ CRC_TABLES[2][high >> 8 & 0xFF]
            ^ CRC_TABLES[1][high >> 16 & 0xFF] ^ CRC_TABLES[0][high >> 24];
    }
    for (; size; size--, at++)
        crc = crc >> 8 ^ CRC_TABLES[0][(crc ^ *at) & 0xFF];
    return ~crc;
}

static int
is_checksum_right(const Event *event)
{
    if (event->next == event->end)
        return 1;
    return crc32_of(event->at, (size_t)(event->end - event->at)) == number_at(event->end);
}

/* Table maps that have been seen. */

static size_t
place_of(const Scanner *self, Bytes body, size_t size)
{
    uint64_t hash = size;
    size_t place;

    for (size_t i = 0; i < size; i += i + 8 <= size ? 8 : 1)
        hash = (hash ^ (i + 8 <= size ? long_at(body + i) : body[i])) * 0x9E3779B97F4A7C15u,
        hash ^= hash >> 31;
    for (place = (size_t)hash % PLACES;; place = (place + 1) % PLACES) {
        PyObject *known = self->known[place].body;
        if (known == NULL || ((size_t)PyBytes_Size(known) == size
                              && memcmp(PyBytes_AsString(known), body, size) == 0))
            return place;
    }
}

static void
forget_all(Scanner *self)
{
    for (size_t i = 0; i < PLACES; i++) {
        Known known = self->known[i];
        memset(&self->known[i], 0, sizeof(Known));
        Py_XDECREF(known.body);
        Py_XDECREF(known.id);
        Py_XDECREF(known.watched);
        Py_XDECREF(known.table);
        Py_XDECREF(known.decoder);
    }
    self->known_count = 0;
}

static PyObject *
scanner_forget(Scanner *self, PyObject *Py_UNUSED(ignored))
{
    forget_all(self);
    Py_RETURN_NONE;
}

static PyObject *
scanner_know(Scanner *self, PyObject *arguments)
{
    PyObject *body, *watched, *table, *decoder, *id;
    Known *known;

    if (!PyArg_ParseTuple(arguments, "SOOO:know", &body, &watched, &table, &decoder))
        return NULL;
    if ((watched != Py_None && !Py_IS_TYPE(decoder, Decoder_Type)) || PyBytes_Size(body) < 6) {
        PyErr_SetString(PyExc_TypeError, "no table map, or no decoder of the core");
        return NULL;
    }
    id = PyBytes_FromStringAndSize(PyBytes_AsString(body), 6);
    if (id == NULL)
        return NULL;
    if (self->known_count >= PLACES / 2)
        forget_all(self);
    known = &self->known[place_of(self, (Bytes)PyBytes_AsString(body), (size_t)PyBytes_Size(body))];
    if (known->body == NULL) {
        Py_INCREF(body);
        known->body = body;
        self->known_count++;
    }
    Py_XDECREF(known->id);
    Py_XDECREF(known->watched);
    Py_XDECREF(known->table);
    Py_XDECREF(known->decoder);
    known->id = id;
    Py_INCREF(watched);
    known->watched = watched;
    Py_INCREF(table);
    Py_INCREF(decoder);
    known->table = table;
    known->decoder = decoder;
    Py_RETURN_NONE;
}

/* Events. */

/* The next event, in a packet of its own or not; false where it is not there as a whole. */
static int
next_event(Bytes at, Bytes end, int is_packed, unsigned checksum, Event *event)
{
    uint32_t size;

    if (is_packed) {
        if (end - at < PACKET_HEADER + 1 + EVENT_HEADER || at[4] != 0)
            return 0;
        size = number_at(at + PACKET_HEADER + 1 + 9);
        if ((number_at(at) & FULL_PACKET) != (uint64_t)size + 1)
            return 0;
        at += PACKET_HEADER + 1;
    } else {
        if (end - at < EVENT_HEADER)
            return 0;
        size = number_at(at + 9);
    }
    if (size > (size_t)(end - at) || size < EVENT_HEADER + checksum)
        return 0;
    event->at = at;
    event->next = at + size;
    event->end = event->next - checksum;
    event->kind = at[4];
    return 1;
}

static int
is_begin(const Event *event)
{
    return event->kind == QUERY && event->end - event->at >= EVENT_HEADER + 6
           && memcmp(event->end - 6, "\0BEGIN", 6) == 0;
}

/* Rows of a table map of this transaction. 1: taken; 0: Python is to take the transaction. */
static int
take_rows(const Scanner *self, const Event *event, const Known *known, Run *run)
{
    Bytes body = event->at + EVENT_HEADER;
    PyObject *images, *parts, *change;
    size_t count = 0;
    newfunc make = (newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new);
    int failed;

    if (known->watched == Py_None)
        return 1;
    if (!is_checksum_right(event))
        return 0;
    images = decoder_decode((Decoder *)known->decoder, event->kind, body, event->end, &count);
    if (images == NULL)
        return 0;
    parts = Py_BuildValue("((OOOOnO))", known->table,
                          PyTuple_GetItem(self->kinds, (Py_ssize_t)event->kind),
                          PyTuple_GetItem(images, 0), PyTuple_GetItem(images, 1),
                          (Py_ssize_t)count, body[6] & self->shown ? Py_False : Py_True);
    Py_DECREF(images);
    change = parts ? make((PyTypeObject *)self->change, parts, NULL) : NULL;
    Py_XDECREF(parts);
    failed = change == NULL || PyList_Append(run->changes, change) < 0;
    Py_XDECREF(change);
    run->rows += count;
    return !failed;
}

/* From the first table map to the Xid; the place behind it, NULL: Python is to do it. */
static Bytes
take_body(const Scanner *self, Bytes at, Bytes end, int is_packed, unsigned checksum, Run *run,
          Event *last)
{
    struct {
        Bytes id;
        const Known *known;
    } tables[TABLES_MAX];
    size_t count = 0;
    Event event;

    while (next_event(at, end, is_packed, checksum, &event)) {
        Bytes body = event.at + EVENT_HEADER;
        size_t i = count;

        at = event.next;
        if (event.kind == XID) {
            *last = event;
            return at;
        }
        if (self->ignored[event.kind])
            continue;
        if (event.end - body < 8)
            return NULL;
        if (event.kind == TABLE_MAP) {
            const Known *known = &self->known[place_of(self, body, (size_t)(event.end - body))];
            if (known->body == NULL || count == TABLES_MAX
                || PyDict_SetItem(run->watched_by_id, known->id, known->watched) < 0)
                return NULL;
            tables[count].id = body;
            tables[count++].known = known;
            continue;
        }
        if (PyTuple_GetItem(self->kinds, event.kind) == Py_None)
            return NULL;
        while (i && memcmp(tables[i - 1].id, body, 6) != 0)
            i--;
        if (!i || !take_rows(self, &event, tables[i - 1].known, run))
            return NULL;
    }
    return NULL;
}

/* Whether an Xid follows before anything that Python must take, and is there already: what is not
   is not decoded in vain. */
static int
is_whole(const Scanner *self, Bytes at, Bytes end, int is_packed, unsigned checksum)
{
    Event event;

    for (; next_event(at, end, is_packed, checksum, &event); at = event.next) {
        if (event.kind == XID)
            return 1;
        if (event.kind != TABLE_MAP && !self->ignored[event.kind]
            && PyTuple_GetItem(self->kinds, event.kind) == Py_None)
            return 0;
    }
    return 0;
}

/* From MySQL's BEGIN to the Xid. */
static Bytes
take_rest(const Scanner *self, Bytes at, Bytes end, int is_packed, unsigned checksum, Run *run,
          Event *last)
{
    Event event;

    if (!next_event(at, end, is_packed, checksum, &event) || !is_begin(&event)
        || !is_whole(self, event.next, end, is_packed, checksum))
        return NULL;
    return take_body(self, event.next, end, is_packed, checksum, run, last);
}

/* Where the compressed events of a payload begin, NULL: they are not of the usual kind. */
static Bytes
payload_source(const Event *event, uint64_t *inside_size)
{
    Bytes at = event->at + EVENT_HEADER;
    int is_zstd = 0;

    *inside_size = 0;
    while (event->end - at >= 2 && *at != HEAD_END) {
        uint8_t field = at[0], length = at[1];

        at += 2;
        if (event->end - at <= length)
            return NULL;
        if (field == COMPRESSION)
            is_zstd = length == 1 && at[0] == ZSTD;
        if (field == SIZE) {
            if (at[0] < 251 && length == 1)
                *inside_size = at[0];
            else if ((at[0] == 252 && length == 3) || (at[0] == 253 && length == 4))
                *inside_size = number_at(at) >> 8 & (at[0] == 252 ? 0xFFFFu : 0xFFFFFFu);
            else
                return NULL;
        }
        at += length;
    }
    if (event->end - at < 2 || !is_zstd || !*inside_size || *inside_size > LARGEST_INSIDE)
        return NULL;
    return at + 1;
}

/* A compressed transaction: all of it in one event. */
static Bytes
take_payload(const Scanner *self, const Event *event, Run *run, Event *last)
{
    uint64_t size;
    Bytes source = payload_source(event, &size), at = NULL, inside_end;
    PyObject *inside;

    if (source == NULL || !is_checksum_right(event))
        return NULL;
    inside = PyObject_CallFunction(self->inflate, "y#n", source,
                                   (Py_ssize_t)(event->end - source), (Py_ssize_t)size);
    if (inside != NULL && PyBytes_Check(inside) && (uint64_t)PyBytes_Size(inside) == size) {
        inside_end = (Bytes)PyBytes_AsString(inside) + size;
        at = take_rest(self, inside_end - size, inside_end, 0, 0, run, last);
        if (at != inside_end)
            at = NULL;
    }
    Py_XDECREF(inside);
    *last = *event;
    return at != NULL ? event->next : NULL;
}

/* What follows MySQL's GTID. */
static Bytes
take_after_gtid(const Scanner *self, Bytes at, Bytes end, unsigned checksum, Run *run, Event *last)
{
    Event event;

    if (!next_event(at, end, 1, checksum, &event))
        return NULL;
    if (event.kind == PAYLOAD)
        return take_payload(self, &event, run, last);
    return take_rest(self, at, end, 1, checksum, run, last);
}

/* MySQL's GTID. */
static Bytes
take_gtid(Bytes at, Bytes end, unsigned checksum, Run *run)
{
    Event event;
    Bytes body, sid;
    uint64_t number;

    if (!next_event(at, end, 1, checksum, &event) || event.kind != GTID
        || event.end - event.at < EVENT_HEADER + GTID_BODY || !is_checksum_right(&event))
        return NULL;
    body = event.at + EVENT_HEADER;
    sid = body + 1;
    number = long_at(body + 17);
    if (!number || number >> 62)
        return NULL;
    if (run->sid != NULL && (number != run->next || memcmp(sid, run->sid, 16) != 0))
        return NULL;
    run->committed_at = (double)(long_at(body + 42) & (((uint64_t)1 << 55) - 1)) / 1e6;
    if (run->sid == NULL) {
        run->sid = sid;
        run->first = number;
    }
    run->next = number; /* one more once it is whole */
    return event.next;
}

static Bytes
take_mariadb_gtid(Bytes at, Bytes end, unsigned checksum, Run *run)
{
    Event event;
    Bytes body;
    uint32_t domain;

    if (!next_event(at, end, 1, checksum, &event) || event.kind != MARIADB_GTID
        || event.end - event.at < EVENT_HEADER + MARIADB_GTID_BODY || !is_checksum_right(&event))
        return NULL;
    body = event.at + EVENT_HEADER;
    domain = number_at(body + 8);
    if (body[12] & (1 | 64)) /* a lone statement, or XA's prepare */
        return NULL;
    if (PyList_Size(run->times) && domain != run->domain)
        return NULL;
    run->domain = domain;
    run->server = number_at(event.at + 5);
    run->sequence = long_at(body);
    run->first_end = number_at(event.at + 13);
    run->committed_at = 0.0;
    return event.next;
}

/* One transaction; the place behind it. NULL: it is not plain, nothing of it has been taken. */
static Bytes
take_transaction(const Scanner *self, Bytes at, Bytes end, unsigned checksum, Py_ssize_t most,
                 Run *run)
{
    Run before = *run;
    Py_ssize_t changes = PyList_Size(run->changes);
    PyObject *time;
    Event xid;
    int failed;

    at = self->is_mariadb ? take_mariadb_gtid(at, end, checksum, run)
                          : take_gtid(at, end, checksum, run);
    if (at != NULL && !self->is_mariadb)
        at = take_after_gtid(self, at, end, checksum, run, &xid);
    else if (at != NULL && is_whole(self, at, end, 1, checksum))
        at = take_body(self, at, end, 1, checksum, run, &xid);
    else
        at = NULL;
    PyErr_Clear(); /* Python meets it again */
    if (at == NULL || run->rows - before.rows >= (size_t)most) { /* too many at once */
        *run = before;
        if (PyList_SetSlice(run->changes, changes, PyList_Size(run->changes), NULL) < 0)
            PyErr_Clear();
        return NULL;
    }
    run->next++;
    if (number_at(xid.at + 13))
        run->end_pos = number_at(xid.at + 13);
    if (run->committed_at == 0.0)
        time = PyLong_FromUnsignedLong(number_at(xid.at));
    else
        time = PyFloat_FromDouble(run->committed_at);
    failed = time == NULL || PyList_Append(run->times, time) < 0;
    Py_XDECREF(time);
    return failed ? NULL : at;
}

static PyObject *
told(const Scanner *self, const Run *run, Py_ssize_t at)
{
    if (self->is_mariadb)
        return Py_BuildValue("nIOOn(IIK)I", at, run->end_pos, run->times, run->changes,
                             (Py_ssize_t)run->rows, run->domain, run->server,
                             (unsigned long long)run->sequence, run->first_end);
    return Py_BuildValue("nIOOn(y#KK)d", at, run->end_pos, run->times, run->changes,
                         (Py_ssize_t)run->rows, run->sid, (Py_ssize_t)16,
                         (unsigned long long)run->first, (unsigned long long)run->next,
                         run->committed_at);
}

/* Take transactions from a place on, until so many rows or transactions have come. */
static PyObject *
scanner_scan(Scanner *self, PyObject *arguments)
{
    Py_buffer view;
    Py_ssize_t offset, most;
    unsigned checksum;
    Run run = {.sid = NULL};
    Bytes at, end, next;
    PyObject *found = NULL;

    if (!PyArg_ParseTuple(arguments, "y*nInO!:scan", &view, &offset, &checksum, &most,
                          &PyDict_Type, &run.watched_by_id))
        return NULL;
    run.changes = PyList_New(0);
    run.times = PyList_New(0);
    if (run.changes != NULL && run.times != NULL && offset >= 0 && offset <= view.len) {
        at = (Bytes)view.buf + offset;
        end = (Bytes)view.buf + view.len;
        while (PyList_Size(run.times) < most && (Py_ssize_t)run.rows < most
               && (next = take_transaction(self, at, end, checksum, self->most, &run)) != NULL)
            at = next;
        if (!PyErr_Occurred()) {
            if (PyList_Size(run.times))
                found = told(self, &run, (Py_ssize_t)(at - (Bytes)view.buf));
            else {
                Py_INCREF(Py_None);
                found = Py_None;
            }
        }
    }
    Py_XDECREF(run.changes);
    Py_XDECREF(run.times);
    PyBuffer_Release(&view);
    return found;
}

static void
scanner_dealloc(Scanner *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);

    if (self->known != NULL)
        forget_all(self);
    free(self->known);
    Py_XDECREF(self->kinds);
    Py_XDECREF(self->change);
    Py_XDECREF(self->inflate);
    PyObject_Free(self);
    Py_DECREF((PyObject *)type);
}

static PyObject *
scanner_new(PyTypeObject *type, PyObject *arguments, PyObject *Py_UNUSED(names))
{
    PyObject *kinds, *change, *ignored, *inflate;
    unsigned shown;
    int is_mariadb;
    Py_ssize_t most;
    Scanner *self;

    if (!PyArg_ParseTuple(arguments, "O!OSIpnO:Scanner", &PyTuple_Type, &kinds, &change,
                          &ignored, &shown, &is_mariadb, &most, &inflate))
        return NULL;
    if (PyTuple_Size(kinds) != 256 || PyBytes_Size(ignored) != 256 || !PyType_Check(change)
        || !PyType_IsSubtype((PyTypeObject *)change, &PyTuple_Type)) {
        PyErr_SetString(PyExc_ValueError, "256 kinds, the type of changes and 256 flags are wanted");
        return NULL;
    }
    self = (Scanner *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    Py_INCREF(kinds);
    Py_INCREF(change);
    self->kinds = kinds;
    self->change = change;
    Py_INCREF(inflate);
    self->inflate = inflate;
    self->shown = shown;
    self->is_mariadb = is_mariadb;
    self->most = most;
    memcpy(self->ignored, PyBytes_AsString(ignored), 256);
    self->known = calloc(PLACES, sizeof(Known));
    if (self->known == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static PyMethodDef scanner_methods[] = {
    {"scan", (PyCFunction)scanner_scan, METH_VARARGS,
     "Take plain transactions; None where there is none."},
    {"know", (PyCFunction)scanner_know, METH_VARARGS,
     "Know a table map: what Python knows of it, the table and its decoder; None: not watched."},
    {"forget", (PyCFunction)scanner_forget, METH_NOARGS, "Know no table map any more."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot scanner_slots[] = {
    {Py_tp_doc, "Takes plain transactions out of the log."},
    {Py_tp_new, scanner_new},
    {Py_tp_dealloc, scanner_dealloc},
    {Py_tp_methods, scanner_methods},
    {0, NULL},
};

static PyType_Spec scanner_spec = {
    "projector._native.Scanner", sizeof(Scanner), 0, Py_TPFLAGS_DEFAULT, scanner_slots,
};

int
scan_ready(PyObject *module)
{
    PyObject *scanner = PyType_FromSpec(&scanner_spec);

    if (scanner == NULL)
        return -1;
    make_crc_tables();
    if (PyModule_AddObjectRef(module, "Scanner", scanner) < 0)
        return -1;
    Py_DECREF(scanner);
    return 0;
}
