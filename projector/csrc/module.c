/* projector._native: what takes most of a daemon's time, compiled. Optional: projector/native.py
   says whether it is used, and the Python that it stands in for is what it is tested against. */

#include "native.h"

#define VERSION 3 /* what is said between it and Python; projector/compiled.py asks for it */

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "projector._native",
    .m_doc = "Rows and documents, compiled.",
    .m_size = -1,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);

    if (module == NULL)
        return NULL;
    if (PyModule_AddIntConstant(module, "VERSION", VERSION) < 0 || results_ready(module) < 0
        || encoder_ready(module) < 0 || rows_ready(module) < 0 || scan_ready(module) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
