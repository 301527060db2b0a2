/* From the rows of all levels of a projection to its documents: `assemble` of
   projector/projection/assembly.py, on bytes alone and without the interpreter's lock.

   What only Python can write (ASK) is asked for; the lock is taken for the first such value and
   kept. A value that cannot be written at all ends the work without a document: Python then does
   it again, and says which it is and why. */

#include "native.h"

#define LITTLE_BYTES 16384 /* not worth giving the lock away: whoever has it may keep it for 5 ms */

typedef struct {
    uint8_t *label;      /* `,"name":`, the comma but for the first */
    size_t label_size;
    Writer writer;       /* NULL: ask */
    int is_copied;       /* the server's text is JSON already */
    PyObject *encode;    /* whom to ask */
} Field;

typedef struct {
    uint8_t *data;
    size_t size;
} Text;

typedef struct Inset Inset;

/* What stands in one object: fields and insets, of the columns of its row one behind the other, and
   between them collections, of levels of their own. */
typedef struct {
    size_t fields_count, children_count, insets_count;
    Field *fields;
    size_t *children;
    Inset *insets;
    size_t width; /* columns of the fields and the insets */
} Body;

/* An object within the row, of the first body whose column before it is not NULL; or a path
   (`is_trail`): the values up to a step whose column before it is NULL or stood there already. */
struct Inset {
    Text label; /* `,"name":` */
    int is_trail;
    size_t count;
    Body *bodies; /* of a path with one field each */
};

/* Rows of names and values, which become one object. */
typedef struct {
    Field key;
    size_t count; /* names whose values have a form of their own */
    Text *names;
    Field *values;
    enum { LAST, LIST, ONCE } repeated;
} Named;

typedef struct {
    size_t parent_width, first; /* columns of the parent's key; columns before the fields */
    int is_plain, is_object;
    Text before, after, empty;
    Body body;
    Named *named; /* NULL: plain rows */
} Level;

typedef struct {
    PyObject_HEAD
    size_t levels_count;
    Level *levels;
    int asks; /* of some field nobody but Python can write a value */
} Encoder;

/* A row as JSON, and the next one of its group; its name, if it has one, ends in the middle. */
typedef struct {
    size_t start, middle, end, next;
} Fragment;

typedef struct {
    Bytes key; /* NULL: a free place */
    size_t key_size;
    uint64_t hash;
    size_t first, last;
} Group;

#define NO_FRAGMENT SIZE_MAX

/* The rows of one level below the top, as JSON, by the keys of their parents. */
typedef struct {
    const Rows *rows;
    Buffer out;
    Fragment *fragments;
    Group *groups;
    size_t mask;
    const Group *over_nothing; /* says what stands where a parent has no rows */
} Grouping;

typedef struct {
    const Encoder *encoder;
    Grouping *groupings; /* a level */
    Buffer documents;
    PyThreadState *state; /* NULL while we have the interpreter's lock */
    int is_refused;
} Work;

static void
text_free(Text *text)
{
    free(text->data);
}

static void
field_free(Field *field)
{
    free(field->label);
    Py_XDECREF(field->encode);
}

static void
body_free(Body *body)
{
    for (size_t i = 0; i < body->fields_count; i++)
        field_free(&body->fields[i]);
    for (size_t i = 0; i < body->insets_count; i++) {
        Inset *inset = &body->insets[i];
        for (size_t kind = 0; kind < inset->count; kind++)
            body_free(&inset->bodies[kind]);
        free(inset->bodies);
        text_free(&inset->label);
    }
    free(body->fields);
    free(body->children);
    free(body->insets);
}

static void
named_free(Named *named)
{
    if (named == NULL)
        return;
    for (size_t i = 0; i < named->count; i++) {
        text_free(&named->names[i]);
        field_free(&named->values[i]);
    }
    field_free(&named->key);
    free(named->names);
    free(named->values);
    free(named);
}

static void
encoder_dealloc(Encoder *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);

    for (size_t i = 0; i < self->levels_count; i++) {
        Level *level = &self->levels[i];
        body_free(&level->body);
        named_free(level->named);
        text_free(&level->before);
        text_free(&level->after);
        text_free(&level->empty);
    }
    free(self->levels);
    PyObject_Free(self);
    Py_DECREF((PyObject *)type);
}

/* Asking Python. */

static void
need_lock(Work *work)
{
    if (work->state != NULL) {
        PyEval_RestoreThread(work->state);
        work->state = NULL;
    }
}

static int
ask(Work *work, const Field *field, Buffer *out, Bytes value, size_t size)
{
    PyObject *given, *written = NULL;
    char *data;
    Py_ssize_t length;
    int failed = -1;

    need_lock(work);
    if (field->encode == Py_None) {
        PyErr_SetString(PyExc_SystemError, "a value that nobody can write");
        return -1;
    }
    given = PyBytes_FromStringAndSize((const char *)value, (Py_ssize_t)size);
    if (given != NULL)
        written = PyObject_CallFunctionObjArgs(field->encode, given, NULL);
    Py_XDECREF(given);
    if (written != NULL && PyBytes_AsStringAndSize(written, &data, &length) == 0)
        failed = buffer_put(out, data, (size_t)length);
    if (failed < 0 && !PyErr_Occurred())
        PyErr_NoMemory();
    if (written == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        work->is_refused = 1;
    }
    Py_XDECREF(written);
    return failed;
}

static int
no_memory(Work *work)
{
    need_lock(work);
    PyErr_NoMemory();
    return -1;
}

/* Fields of a row. */

static int
write_value(Work *work, int is_plain, const Field *field, Buffer *out, Bytes value, size_t size)
{
    size_t start = out->size;
    Outcome outcome = ASK;

    if (value == NULL)
        return buffer_put(out, "null", 4) < 0 ? no_memory(work) : 0;
    if (field->is_copied) { /* an empty one is no number */
        if (!size && !is_plain)
            return buffer_put(out, "null", 4) < 0 ? no_memory(work) : 0;
        return buffer_put(out, value, size) < 0 ? no_memory(work) : 0;
    }
    if (field->writer != NULL)
        outcome = field->writer(out, value, size);
    if (outcome == FAILED)
        return no_memory(work);
    if (outcome == WRITTEN)
        return 0;
    out->size = start;
    return ask(work, field, out, value, size);
}

static int
write_fields(Work *work, const Body *body, int is_plain, Buffer *out, Bytes *at)
{
    for (size_t i = 0; i < body->fields_count; i++) {
        const Field *field = &body->fields[i];
        Bytes value;
        size_t size;

        *at = next_column(*at, &value, &size);
        if (!is_plain && buffer_put(out, field->label, field->label_size) < 0)
            return no_memory(work);
        if (write_value(work, is_plain, field, out, value, size) < 0)
            return -1;
    }
    return 0;
}

static Bytes
skip_columns(Bytes at, size_t count)
{
    Bytes value;
    size_t size;

    while (count--)
        at = next_column(at, &value, &size);
    return at;
}

/* Groups of rows. */

static uint64_t
hash_of(Bytes at, size_t size)
{
    uint64_t hash = 0xCBF29CE484222325u ^ size;

    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    for (; size; size--, at++)
        hash = (hash ^ *at) * 0x100000001B3u;
    hash *= 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 32;
}

static Group *
find(const Grouping *grouping, Bytes key, size_t size, uint64_t hash)
{
    size_t place = (size_t)hash & grouping->mask;

    for (;; place = (place + 1) & grouping->mask) {
        Group *group = &grouping->groups[place];
        if (group->key == NULL)
            return group;
        if (group->hash == hash && group->key_size == size && memcmp(group->key, key, size) == 0)
            return group;
    }
}

static const Group *
group_of(const Grouping *grouping, Bytes key, size_t size)
{
    const Group *group;

    if (grouping->groups == NULL)
        return NULL;
    group = find(grouping, key, size, hash_of(key, size));
    return group->key != NULL ? group : grouping->over_nothing;
}

/* A name in a group, to be sorted. */
typedef struct {
    const uint8_t *name;
    size_t size, index;
} Member;

static int
by_name(const void *left, const void *right)
{
    const Member *a = left, *b = right;
    size_t least = a->size < b->size ? a->size : b->size;
    int found = least ? memcmp(a->name, b->name, least) : 0;

    if (found)
        return found;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static int
put_value(const Grouping *grouping, size_t index, Buffer *out)
{
    const Fragment *fragment = &grouping->fragments[index];

    return buffer_put(out, grouping->out.data + fragment->middle,
                      fragment->end - fragment->middle);
}

/* Write the members of an object, in the order of their names; -2: a name that must not stands
   twice. */
static int
put_members(const Named *named, const Grouping *grouping, const Member *members, size_t count,
            Buffer *out)
{
    for (size_t first = 0, next; first < count; first = next) {
        const Member *member = &members[first];

        for (next = first + 1; next < count; next++)
            if (members[next].size != member->size
                || memcmp(members[next].name, member->name, member->size) != 0)
                break;
        if (named->repeated == ONCE && next - first > 1)
            return -2;
        if ((first && buffer_put_byte(out, ',') < 0)
            || buffer_put(out, member->name, member->size) < 0 || buffer_put_byte(out, ':') < 0)
            return -1;
        if (named->repeated != LIST) {
            if (put_value(grouping, members[next - 1].index, out) < 0)
                return -1;
            continue;
        }
        for (size_t i = first; i < next; i++)
            if (buffer_put_byte(out, i == first ? '[' : ',') < 0
                || put_value(grouping, members[i].index, out) < 0)
                return -1;
        if (buffer_put_byte(out, ']') < 0)
            return -1;
    }
    return 0;
}

static int
put_named(const Named *named, const Grouping *grouping, const Group *group, Buffer *out)
{
    size_t count = 0;
    Member *members;
    int failed;

    for (size_t i = group->first; i != NO_FRAGMENT; i = grouping->fragments[i].next)
        count++;
    members = malloc(count * sizeof(Member));
    if (members == NULL)
        return -1;
    count = 0;
    for (size_t i = group->first; i != NO_FRAGMENT; i = grouping->fragments[i].next) {
        const Fragment *fragment = &grouping->fragments[i];
        members[count++] = (Member){grouping->out.data + fragment->start,
                                    fragment->middle - fragment->start, i};
    }
    qsort(members, count, sizeof(Member), by_name);
    failed = put_members(named, grouping, members, count, out);
    free(members);
    return failed;
}

static int
put_rows(const Grouping *grouping, const Group *group, Buffer *out)
{
    for (size_t i = group->first; i != NO_FRAGMENT; i = grouping->fragments[i].next)
        if ((i != group->first && buffer_put_byte(out, ',') < 0)
            || put_value(grouping, i, out) < 0)
            return -1;
    return 0;
}

static int
put_group(Work *work, const Level *level, const Grouping *grouping, const Group *group, Buffer *out)
{
    int failed;

    if (group == NULL)
        return buffer_put(out, level->empty.data, level->empty.size) < 0 ? no_memory(work) : 0;
    if (buffer_put(out, level->before.data, level->before.size) < 0)
        return no_memory(work);
    failed = level->named != NULL ? put_named(level->named, grouping, group, out)
                                  : put_rows(grouping, group, out);
    if (failed == -2) {
        work->is_refused = 1;
        return -1;
    }
    if (failed < 0 || buffer_put(out, level->after.data, level->after.size) < 0)
        return no_memory(work);
    return 0;
}

static int
write_body(Work *work, const Body *body, int is_plain, Buffer *out, Bytes row, size_t key_size,
           Bytes *at);

/* An object within the row: of the columns of all its kinds only those of one are written. */
static int
write_nested(Work *work, const Inset *inset, Buffer *out, Bytes row, size_t key_size, Bytes *at)
{
    int is_found = 0;

    for (size_t i = 0; i < inset->count; i++) {
        const Body *body = &inset->bodies[i];
        Bytes mark;
        size_t size;

        *at = next_column(*at, &mark, &size);
        if (is_found || mark == NULL) {
            *at = skip_columns(*at, body->width);
            continue;
        }
        is_found = 1;
        if (buffer_put_byte(out, '{') < 0)
            return no_memory(work);
        if (write_body(work, body, 0, out, row, key_size, at) < 0)
            return -1;
        if (buffer_put_byte(out, '}') < 0)
            return no_memory(work);
    }
    if (!is_found && buffer_put(out, "null", 4) < 0)
        return no_memory(work);
    return 0;
}

#define STEPS_MAX 64

static int
write_trail(Work *work, const Inset *inset, Buffer *out, Bytes *at)
{
    struct { Bytes at; size_t size; } seen[STEPS_MAX];
    size_t count = 0;
    int is_over = 0;

    if (buffer_put_byte(out, '[') < 0)
        return no_memory(work);
    for (size_t i = 0; i < inset->count; i++) {
        const Body *body = &inset->bodies[i];
        Bytes own;
        size_t size;

        *at = next_column(*at, &own, &size);
        for (size_t known = 0; own != NULL && known < count; known++)
            if (seen[known].size == size && (!size || memcmp(seen[known].at, own, size) == 0))
                is_over = 1;
        if (is_over || own == NULL) {
            is_over = 1;
            *at = skip_columns(*at, body->width);
            continue;
        }
        if (count && buffer_put_byte(out, ',') < 0)
            return no_memory(work);
        seen[count].at = own;
        seen[count++].size = size;
        if (write_fields(work, body, 1, out, at) < 0)
            return -1;
    }
    return buffer_put_byte(out, ']') < 0 ? no_memory(work) : 0;
}

/* Write what stands in an object, with all rows below it. */
static int
write_body(Work *work, const Body *body, int is_plain, Buffer *out, Bytes row, size_t key_size,
           Bytes *at)
{
    if (write_fields(work, body, is_plain, out, at) < 0)
        return -1;
    for (size_t i = 0; i < body->children_count; i++) {
        size_t child = body->children[i];
        const Grouping *grouping = &work->groupings[child];
        const Group *group = group_of(grouping, row, key_size);
        if (put_group(work, &work->encoder->levels[child], grouping, group, out) < 0)
            return -1;
    }
    for (size_t i = 0; i < body->insets_count; i++) {
        const Inset *inset = &body->insets[i];
        if (buffer_put(out, inset->label.data, inset->label.size) < 0)
            return no_memory(work);
        if ((inset->is_trail ? write_trail(work, inset, out, at)
                             : write_nested(work, inset, out, row, key_size, at)) < 0)
            return -1;
    }
    return 0;
}

/* Write a row with all rows below it. */
static int
write_row(Work *work, const Level *level, Buffer *out, Bytes row, Bytes fields)
{
    size_t key_size = (size_t)(fields - row);

    if (level->is_object && buffer_put_byte(out, '{') < 0)
        return no_memory(work);
    if (write_body(work, &level->body, level->is_plain, out, row, key_size, &fields) < 0)
        return -1;
    if (level->is_object && buffer_put_byte(out, '}') < 0)
        return no_memory(work);
    return 0;
}

/* Make a text of a name that is none, which begins at `start`: a number or a word of JSON. Others
   only Python knows how to spell. */
static int
quote(Work *work, Buffer *out, size_t start)
{
    size_t size = out->size - start;
    uint8_t *data;

    if (buffer_reserve(out, 2) < 0)
        return no_memory(work);
    data = out->data + start;
    for (size_t i = 0; i < size; i++)
        if (data[i] == '"' || data[i] == '\\' || data[i] <= ' ' || data[i] >= 127) {
            work->is_refused = 1;
            return -1;
        }
    memmove(data + 1, data, size);
    data[0] = data[size + 1] = '"';
    out->size += 2;
    return 0;
}

/* Write the name of a row and its value, which begins at `*middle`: at the start of a row that has
   no name, of which nothing is written. */
static int
write_member(Work *work, const Named *named, const Field *plain, Buffer *out, Bytes at,
             size_t *middle)
{
    size_t start = out->size, size, value_size;
    const Field *field = plain;
    Bytes name, value;
    int is_null;

    at = next_column(at, &name, &size);
    at = next_column(at, &value, &value_size);
    if (write_value(work, 1, &named->key, out, name, size) < 0)
        return -1;
    is_null = out->size - start == 4 && memcmp(out->data + start, "null", 4) == 0;
    if (!is_null && (out->size == start || out->data[start] != '"') && quote(work, out, start) < 0)
        return -1;
    *middle = out->size;
    for (size_t i = 0; i < named->count; i++) /* NULL is as a name without letters */
        if (named->names[i].size == size
            && (!size || memcmp(named->names[i].data, name, size) == 0))
            field = &named->values[i];
    if (write_value(work, 1, field, out, value, value_size) < 0)
        return -1;
    if (is_null)
        out->size = *middle = start;
    return 0;
}

static int
grouping_prepare(Grouping *grouping)
{
    size_t count = rows_count(grouping->rows), places = 8;

    while (places < count * 2)
        places *= 2;
    grouping->mask = places - 1;
    grouping->groups = calloc(places, sizeof(Group));
    grouping->fragments = malloc((count ? count : 1) * sizeof(Fragment));
    return grouping->groups != NULL && grouping->fragments != NULL ? 0 : -1;
}

static void
grouping_add(Grouping *grouping, Group **latest, Bytes key, size_t size, size_t index)
{
    Group *group = *latest;

    if (group == NULL || group->key_size != size || memcmp(group->key, key, size) != 0) {
        uint64_t hash = hash_of(key, size);
        group = find(grouping, key, size, hash);
        if (group->key == NULL) {
            group->key = key;
            group->key_size = size;
            group->hash = hash;
            group->first = NO_FRAGMENT;
        }
        *latest = group;
    }
    if (group->first == NO_FRAGMENT)
        group->first = index;
    else
        grouping->fragments[group->last].next = index;
    group->last = index;
}

static int
is_null_key(const Group *group, size_t width)
{
    if (group->key == NULL || group->key_size != width)
        return 0;
    for (size_t i = 0; i < width; i++)
        if (group->key[i] != 251)
            return 0;
    return 1;
}

static int group_level(Work *work, size_t number);

/* Write the rows of all levels below an object. */
static int
group_below(Work *work, const Body *body)
{
    for (size_t i = 0; i < body->children_count; i++)
        if (group_level(work, body->children[i]) < 0)
            return -1;
    for (size_t i = 0; i < body->insets_count; i++)
        for (size_t kind = 0; kind < body->insets[i].count; kind++)
            if (group_below(work, &body->insets[i].bodies[kind]) < 0)
                return -1;
    return 0;
}

/* Write the rows of a level below the top, and know them by their parents' keys. */
static int
group_level(Work *work, size_t number)
{
    const Level *level = &work->encoder->levels[number];
    Grouping *grouping = &work->groupings[number];
    size_t count = rows_count(grouping->rows);
    Group *latest = NULL;

    if (group_below(work, &level->body) < 0)
        return -1;
    if (!count)
        return 0;
    if (grouping_prepare(grouping) < 0)
        return no_memory(work);
    for (size_t i = 0; i < count; i++) {
        Bytes row = grouping->rows->bytes.data + rows_start(grouping->rows, i);
        Bytes key_end = skip_columns(row, level->parent_width);
        Bytes fields = skip_columns(key_end, level->first - level->parent_width);
        size_t start = grouping->out.size, middle = start;

        if (level->named != NULL) {
            if (write_member(work, level->named, level->body.fields, &grouping->out, fields,
                             &middle) < 0)
                return -1;
            if (middle == start)
                continue;
        } else if (write_row(work, level, &grouping->out, row, fields) < 0)
            return -1;
        grouping->fragments[i] = (Fragment){start, middle, grouping->out.size, NO_FRAGMENT};
        grouping_add(grouping, &latest, row, (size_t)(key_end - row), i);
    }
    for (size_t i = 0; level->named == NULL && i <= grouping->mask; i++)
        if (is_null_key(&grouping->groups[i], level->parent_width))
            grouping->over_nothing = &grouping->groups[i];
    return 0;
}

/* Write the documents; `ends` says where each ends. */
static int
write_documents(Work *work, size_t *ends)
{
    const Level *top = &work->encoder->levels[0];
    const Rows *rows = work->groupings[0].rows;
    size_t count = rows_count(rows);

    if (group_below(work, &top->body) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        Bytes row = rows->bytes.data + rows_start(rows, i);
        if (write_row(work, top, &work->documents, row, skip_columns(row, top->first)) < 0)
            return -1;
        ends[i] = work->documents.size;
    }
    return 0;
}

/* What Python gets. */

static PyObject *
key_at(Bytes at, size_t width)
{
    PyObject *key = PyTuple_New((Py_ssize_t)width);

    for (size_t i = 0; key != NULL && i < width; i++) {
        Bytes value;
        size_t size;
        PyObject *part = Py_None;

        at = next_column(at, &value, &size);
        if (value == NULL)
            Py_INCREF(part);
        else
            part = PyBytes_FromStringAndSize((const char *)value, (Py_ssize_t)size);
        if (part == NULL || PyTuple_SetItem(key, (Py_ssize_t)i, part) < 0) {
            Py_DECREF(key);
            return NULL;
        }
    }
    return key;
}

static PyObject *
documents_of(const Work *work, const size_t *ends)
{
    const Rows *rows = work->groupings[0].rows;
    size_t count = rows_count(rows), start = 0;
    PyObject *list = PyList_New((Py_ssize_t)count);

    for (size_t i = 0; list != NULL && i < count; i++) {
        const char *data = (const char *)work->documents.data + start;
        PyObject *key = key_at(rows->bytes.data + rows_start(rows, i),
                               work->encoder->levels[0].first);
        PyObject *document = PyBytes_FromStringAndSize(data, (Py_ssize_t)(ends[i] - start));
        PyObject *pair = key && document ? PyTuple_Pack(2, key, document) : NULL;

        Py_XDECREF(key);
        Py_XDECREF(document);
        if (pair == NULL || PyList_SetItem(list, (Py_ssize_t)i, pair) < 0) {
            Py_DECREF(list);
            return NULL;
        }
        start = ends[i];
    }
    return list;
}

static void
work_free(Work *work)
{
    for (size_t i = 0; i < work->encoder->levels_count; i++) {
        buffer_free(&work->groupings[i].out);
        free(work->groupings[i].fragments);
        free(work->groupings[i].groups);
        Py_XDECREF((PyObject *)work->groupings[i].rows);
    }
    free(work->groupings);
    buffer_free(&work->documents);
}

/* Take the rows of each level out of a list; give how many bytes they are, -1 with an error. */
static Py_ssize_t
take_rows(Work *work, PyObject *list)
{
    size_t size = 0;

    for (size_t i = 0; i < work->encoder->levels_count; i++) {
        const Level *level = &work->encoder->levels[i];
        PyObject *rows = PyList_GetItem(list, (Py_ssize_t)i);

        if (rows == NULL || !Py_IS_TYPE(rows, Rows_Type)) {
            PyErr_SetString(PyExc_TypeError, "rows of the core are wanted");
            return -1;
        }
        if (((Rows *)rows)->columns
            < level->first + (level->named != NULL ? 1 : 0) + level->body.width) {
            work->is_refused = 1; /* Python knows what to say of it */
            return -1;
        }
        Py_INCREF(rows); /* whoever has the list may change it while the lock is given away */
        work->groupings[i].rows = (Rows *)rows;
        size += ((Rows *)rows)->bytes.size;
    }
    return (Py_ssize_t)size;
}

static PyObject *
encoder_documents(Encoder *self, PyObject *list)
{
    Work work = {.encoder = self};
    PyObject *documents = NULL;
    size_t *ends = NULL;
    Py_ssize_t size;
    int failed = -1;

    if (!PyList_Check(list) || (size_t)PyList_Size(list) != self->levels_count) {
        PyErr_SetString(PyExc_TypeError, "a list with the rows of each level is wanted");
        return NULL;
    }
    work.groupings = calloc(self->levels_count, sizeof(Grouping));
    if (work.groupings == NULL)
        return PyErr_NoMemory();
    size = take_rows(&work, list);
    if (size >= 0) {
        ends = malloc((rows_count(work.groupings[0].rows) + 1) * sizeof(size_t));
        if (ends == NULL)
            PyErr_NoMemory();
    }
    if (ends != NULL) {
        if (!self->asks && size > LITTLE_BYTES)
            work.state = PyEval_SaveThread();
        failed = write_documents(&work, ends);
        need_lock(&work);
    }
    if (failed == 0)
        documents = documents_of(&work, ends);
    free(ends);
    work_free(&work);
    if (work.is_refused)
        Py_RETURN_NONE;
    return documents;
}

/* Making an encoder of what assembly.py says of its levels. */

static int
text_of(PyObject *value, Text *text)
{
    char *data;
    Py_ssize_t size;

    if (PyBytes_AsStringAndSize(value, &data, &size) < 0)
        return -1;
    text->data = malloc((size_t)size + 1);
    if (text->data == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(text->data, data, (size_t)size);
    text->size = (size_t)size;
    return 0;
}

/* (label, name of the writer or "", encode or None) */
static int
read_field(PyObject *said, Field *field, int *asks)
{
    PyObject *label, *encode;
    const char *name;
    Text text = {NULL, 0};

    if (!PyArg_ParseTuple(said, "SsO:field", &label, &name, &encode) || text_of(label, &text) < 0)
        return -1;
    field->label = text.data;
    field->label_size = text.size;
    field->writer = writer_named(name);
    field->is_copied = encode == Py_None;
    Py_INCREF(encode);
    field->encode = encode;
    *asks |= !field->is_copied && field->writer == NULL;
    return 0;
}

static int
read_fields(PyObject *said, Body *body, int *asks)
{
    size_t count = (size_t)PyTuple_Size(said);

    body->fields = calloc(count + 1, sizeof(Field));
    if (body->fields == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    body->fields_count = body->width = count;
    for (size_t i = 0; i < count; i++)
        if (read_field(PyTuple_GetItem(said, (Py_ssize_t)i), &body->fields[i], asks) < 0)
            return -1;
    return 0;
}

static int
read_children(PyObject *said, Body *body, size_t number, size_t levels_count)
{
    size_t count = (size_t)PyTuple_Size(said);

    body->children = calloc(count + 1, sizeof(size_t));
    if (body->children == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    body->children_count = count;
    for (size_t i = 0; i < count; i++) {
        size_t child = PyLong_AsSize_t(PyTuple_GetItem(said, (Py_ssize_t)i));
        if (PyErr_Occurred())
            return -1;
        if (child <= number || child >= levels_count) {
            PyErr_SetString(PyExc_ValueError, "a level stands behind the one that it belongs to");
            return -1;
        }
        body->children[i] = child;
    }
    return 0;
}

static int read_body(PyObject *said, Body *body, size_t number, Encoder *self);

/* (label, is_trail, bodies) */
static int
read_inset(PyObject *said, Inset *inset, size_t number, Encoder *self)
{
    PyObject *label, *bodies;
    size_t count;

    if (!PyArg_ParseTuple(said, "SpO!:inset", &label, &inset->is_trail, &PyTuple_Type, &bodies)
        || text_of(label, &inset->label) < 0)
        return -1;
    count = (size_t)PyTuple_Size(bodies);
    inset->bodies = calloc(count + 1, sizeof(Body));
    if (inset->bodies == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    inset->count = count;
    for (size_t i = 0; i < count; i++)
        if (read_body(PyTuple_GetItem(bodies, (Py_ssize_t)i), &inset->bodies[i], number, self) < 0)
            return -1;
    if (inset->is_trail && count > STEPS_MAX) {
        PyErr_SetString(PyExc_ValueError, "a path of so many steps");
        return -1;
    }
    return 0;
}

/* (fields, children, insets) */
static int
read_body(PyObject *said, Body *body, size_t number, Encoder *self)
{
    PyObject *fields, *children, *insets;
    size_t count;

    if (!PyArg_ParseTuple(said, "O!O!O!:body", &PyTuple_Type, &fields, &PyTuple_Type, &children,
                          &PyTuple_Type, &insets))
        return -1;
    if (read_fields(fields, body, &self->asks) < 0
        || read_children(children, body, number, self->levels_count) < 0)
        return -1;
    count = (size_t)PyTuple_Size(insets);
    body->insets = calloc(count + 1, sizeof(Inset));
    if (body->insets == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    body->insets_count = count;
    for (size_t i = 0; i < count; i++) {
        Inset *inset = &body->insets[i];
        if (read_inset(PyTuple_GetItem(insets, (Py_ssize_t)i), inset, number, self) < 0)
            return -1;
        for (size_t kind = 0; kind < inset->count; kind++)
            body->width += 1 + inset->bodies[kind].width;
    }
    return 0;
}

/* (key, ((name, value), ...), repeated) */
static int
read_named(PyObject *said, Named *named, int *asks)
{
    PyObject *key, *values;
    int repeated;
    size_t count;

    if (!PyArg_ParseTuple(said, "OO!i:named", &key, &PyTuple_Type, &values, &repeated)
        || read_field(key, &named->key, asks) < 0)
        return -1;
    named->repeated = repeated == 1 ? LIST : repeated == 2 ? ONCE : LAST;
    count = (size_t)PyTuple_Size(values);
    named->names = calloc(count + 1, sizeof(Text));
    named->values = calloc(count + 1, sizeof(Field));
    if (named->names == NULL || named->values == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    named->count = count;
    for (size_t i = 0; i < count; i++) {
        PyObject *name, *value;
        if (!PyArg_ParseTuple(PyTuple_GetItem(values, (Py_ssize_t)i), "SO:value", &name, &value)
            || text_of(name, &named->names[i]) < 0
            || read_field(value, &named->values[i], asks) < 0)
            return -1;
    }
    return 0;
}

/* (parent_width, first, is_plain, is_object, before, after, empty, body, named or None) */
static int
read_level(PyObject *said, Level *level, size_t number, Encoder *self)
{
    Py_ssize_t parent_width, first;
    PyObject *before, *after, *empty, *body, *named;

    if (!PyArg_ParseTuple(said, "nnppSSSOO:level", &parent_width, &first, &level->is_plain,
                          &level->is_object, &before, &after, &empty, &body, &named))
        return -1;
    if (parent_width < 1 || first < parent_width) {
        PyErr_SetString(PyExc_ValueError, "a level without a key");
        return -1;
    }
    level->parent_width = (size_t)parent_width;
    level->first = (size_t)first;
    if (text_of(before, &level->before) < 0 || text_of(after, &level->after) < 0
        || text_of(empty, &level->empty) < 0 || read_body(body, &level->body, number, self) < 0)
        return -1;
    if (named == Py_None)
        return 0;
    if (!number || level->body.width != 1) {
        PyErr_SetString(PyExc_ValueError, "rows of names have one value each");
        return -1;
    }
    level->named = calloc(1, sizeof(Named));
    if (level->named == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return read_named(named, level->named, &self->asks);
}

static PyObject *
encoder_new(PyTypeObject *type, PyObject *arguments, PyObject *Py_UNUSED(names))
{
    PyObject *levels;
    Encoder *self;
    size_t count;

    if (!PyArg_ParseTuple(arguments, "O!:Encoder", &PyTuple_Type, &levels))
        return NULL;
    count = (size_t)PyTuple_Size(levels);
    if (!count) {
        PyErr_SetString(PyExc_ValueError, "no levels");
        return NULL;
    }
    self = (Encoder *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->levels = calloc(count, sizeof(Level));
    if (self->levels == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->levels_count = count;
    for (size_t i = 0; i < count; i++) {
        PyObject *said = PyTuple_GetItem(levels, (Py_ssize_t)i);
        if (read_level(said, &self->levels[i], i, self) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static PyMethodDef encoder_methods[] = {
    {"documents", (PyCFunction)encoder_documents, METH_O,
     "Make pairs of key and document of the rows of each level; None if some value cannot be "
     "written."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot encoder_slots[] = {
    {Py_tp_doc, "Writes the documents of a projection."},
    {Py_tp_new, encoder_new},
    {Py_tp_dealloc, encoder_dealloc},
    {Py_tp_methods, encoder_methods},
    {0, NULL},
};

static PyType_Spec encoder_spec = {
    "projector._native.Encoder", sizeof(Encoder), 0, Py_TPFLAGS_DEFAULT, encoder_slots,
};

int
encoder_ready(PyObject *module)
{
    PyObject *encoder = PyType_FromSpec(&encoder_spec);

    if (encoder == NULL)
        return -1;
    if (PyModule_AddObjectRef(module, "Encoder", encoder) < 0)
        return -1;
    Py_DECREF(encoder);
    return 0;
}
