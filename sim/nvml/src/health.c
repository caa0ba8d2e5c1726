/* What a GPU says about its own health: ECC errors, remapped rows, the recovery action, the energy since a reset.
 *
 * With MIG on NVML says less (nvml.h): volatile ECC errors only per MIG device and only those of its SRAM, remapped
 * rows not at all while there are instances.
 */
#include <string.h>
#include <time.h>

#include "simulator.h"

enum {
    ERROR_CORRECTED = 0,
    ERROR_UNCORRECTED = 1,
    COUNTER_VOLATILE = 0,
    COUNTER_AGGREGATE = 1,
    LOCATION_DRAM = 2,
    LOCATION_SRAM = 7,
    LOCATION_COUNT = 8,
    FIELD_RECOVERY_ACTION = 230, /* NVML_FI_DEV_GET_GPU_RECOVERY_ACTION */
    FIELD_MAX = 308,             /* NVML_FI_MAX: from here on no field has the number */
    VALUE_UNSIGNED_INT = 1,
    WATTS = 100,
};

/* Milliseconds that no clock setting moves: what the energy counter is derived from. */
uint64_t milliseconds_since_boot(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A reset makes pending remaps real and starts all volatile counters anew; a failed remap stays. */
void health_after_reset(Gpu *gpu)
{
    gpu->ecc_dram = 0;
    gpu->remap_pending = 0;
    gpu->recovery_action = 0;
    gpu->reset_at_ms = milliseconds_since_boot();
}

static bool known_counter(unsigned error, unsigned counter)
{
    return error <= ERROR_UNCORRECTED && counter <= COUNTER_AGGREGATE;
}

/* Aggregate counters are kept on the card's own memory, which nobody asks for here: they are 0. */
static nvmlReturn_t total_errors(State *state, nvmlDevice_t device, unsigned error, unsigned counter,
                                 unsigned long long *count)
{
    Target target;
    if (count == NULL || !known_counter(error, counter))
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_either(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (target.compute != NULL || (counter == COUNTER_VOLATILE && target.gpu->mig_current))
        return NVML_ERROR_NOT_SUPPORTED;
    *count = counter == COUNTER_VOLATILE && error == ERROR_UNCORRECTED ? target.gpu->ecc_dram : 0;
    return NVML_SUCCESS;
}

static nvmlReturn_t errors_at(State *state, nvmlDevice_t device, unsigned error, unsigned counter,
                              unsigned location, unsigned long long *count)
{
    Target target;
    if (count == NULL || !known_counter(error, counter) || location >= LOCATION_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_either(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    bool volatile_uncorrected = counter == COUNTER_VOLATILE && error == ERROR_UNCORRECTED;
    if (target.compute != NULL) {
        if (!volatile_uncorrected || location != LOCATION_SRAM)
            return NVML_ERROR_NOT_SUPPORTED;
        *count = target.instance->ecc_sram;
        return NVML_SUCCESS;
    }
    if ((location != LOCATION_DRAM && location != LOCATION_SRAM) ||
        (counter == COUNTER_VOLATILE && target.gpu->mig_current))
        return NVML_ERROR_NOT_SUPPORTED;
    *count = volatile_uncorrected && location == LOCATION_DRAM ? target.gpu->ecc_dram : 0;
    return NVML_SUCCESS;
}

static nvmlReturn_t remapped_rows(State *state, nvmlDevice_t device, unsigned *corrected, unsigned *uncorrected,
                                  unsigned *pending, unsigned *failed)
{
    Target target;
    if (corrected == NULL || uncorrected == NULL || pending == NULL || failed == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_gpu(state, device, &target);
    if (answer == NVML_SUCCESS && has_instances(target.gpu))
        answer = NVML_ERROR_NOT_SUPPORTED;
    if (answer != NVML_SUCCESS)
        return answer;
    *corrected = 0;
    *uncorrected = target.gpu->remap_pending + target.gpu->remap_failed;
    *pending = target.gpu->remap_pending;
    *failed = target.gpu->remap_failed;
    return NVML_SUCCESS;
}

/* The call succeeds; each field says for itself whether it has a value. */
static nvmlReturn_t field_values(State *state, nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
    Target target;
    if (values == NULL || count < 0)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_gpu(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    for (int index = 0; index < count; index++) {
        nvmlFieldValue_t *value = &values[index];
        value->nvmlReturn = value->fieldId < FIELD_MAX ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
        if (value->fieldId == FIELD_RECOVERY_ACTION) {
            value->nvmlReturn = NVML_SUCCESS;
            value->valueType = VALUE_UNSIGNED_INT;
            value->value = target.gpu->recovery_action;
        }
    }
    return NVML_SUCCESS;
}

static nvmlReturn_t total_energy(State *state, nvmlDevice_t device, unsigned long long *millijoules)
{
    Target target;
    nvmlReturn_t answer = millijoules == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_gpu(state, device, &target);
    if (answer == NVML_SUCCESS)
        *millijoules = WATTS * (milliseconds_since_boot() - target.gpu->reset_at_ms);
    return answer;
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned error, unsigned counter,
                                                unsigned long long *count)
{
    ANSWER(total_errors(state, device, error, counter, count));
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, unsigned error, unsigned counter,
                                                    unsigned location, unsigned long long *count)
{
    ANSWER(errors_at(state, device, error, counter, location, count));
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected, unsigned *uncorrected,
                                              unsigned *pending, unsigned *failed)
{
    ANSWER(remapped_rows(state, device, corrected, uncorrected, pending, failed));
}

EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
    ANSWER(field_values(state, device, count, values));
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *millijoules)
{
    ANSWER(total_energy(state, device, millijoules));
}
