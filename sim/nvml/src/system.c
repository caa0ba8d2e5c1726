/* Versions of the driver, the library and CUDA. */
#include <stdio.h>
#include <stdlib.h>

#include "simulator.h"

/* The CUDA version that a driver branch brings, as CUDA counts it: 13000 is 13.0. */
static int cuda_version(const char *driver_version)
{
    static const struct {
        long branch;
        int cuda;
    } branches[] = {{595, 13020}, {590, 13010}, {580, 13000}, {575, 12090}, {570, 12080}, {565, 12070},
                    {560, 12060}, {555, 12050}, {550, 12040}, {535, 12020}, {525, 12000}, {510, 11060}};
    long branch = strtol(driver_version, NULL, 10);
    for (size_t index = 0; index < sizeof branches / sizeof *branches; index++)
        if (branch >= branches[index].branch)
            return branches[index].cuda;
    return 11000;
}

static nvmlReturn_t cuda_driver_version(const State *state, int *version)
{
    if (version == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    *version = cuda_version(state->driver_version);
    return NVML_SUCCESS;
}

static nvmlReturn_t nvml_version(const State *state, char *buffer, unsigned length)
{
    char text[96];
    snprintf(text, sizeof text, "%d.%s", cuda_version(state->driver_version) / 1000, state->driver_version);
    return copy_text(text, buffer, length);
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    ANSWER(copy_text(state->driver_version, version, length));
}

EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned length)
{
    ANSWER(nvml_version(state, version, length));
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    ANSWER(cuda_driver_version(state, version));
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    ANSWER(cuda_driver_version(state, version));
}
