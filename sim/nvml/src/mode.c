/* MIG mode: at once from Hopper on, pending until a reset on Ampere. */
#include "simulator.h"

nvmlReturn_t has_mig(const Gpu *gpu)
{
    return card_of(gpu)->profile_count == 0 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
}

nvmlReturn_t require_mig(const Gpu *gpu)
{
    return has_mig(gpu) == NVML_SUCCESS && gpu->mig_current ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

/* The pending mode becomes the current one; without MIG mode, or after a reset, there are no instances. */
void settle_after_reset(Gpu *gpu)
{
    gpu->mig_current = gpu->mig_pending;
    for (unsigned id = 0; id < MAX_GPU_INSTANCES; id++)
        gpu->instances[id] = (GpuInstance){0};
}

static nvmlReturn_t get_mode(State *state, nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    Target target;
    if (current == NULL || pending == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_gpu(state, device, &target);
    if (answer == NVML_SUCCESS)
        answer = has_mig(target.gpu);
    if (answer == NVML_SUCCESS) {
        *current = target.gpu->mig_current;
        *pending = target.gpu->mig_pending;
    }
    return answer;
}

/* The call itself succeeds even where the change did not happen: that is what `status` is for. */
static nvmlReturn_t set_mode(State *state, nvmlDevice_t device, unsigned mode, nvmlReturn_t *status)
{
    Target target;
    if (mode > 1 || status == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_gpu(state, device, &target);
    if (answer == NVML_SUCCESS)
        answer = has_mig(target.gpu);
    if (answer != NVML_SUCCESS)
        return answer;
    if (!state->privileged)
        return NVML_ERROR_NO_PERMISSION;
    Gpu *gpu = target.gpu;
    *status = NVML_SUCCESS;
    if (mode == gpu->mig_current) {
        gpu->mig_pending = mode;
    } else if (card_of(gpu)->architecture < HOPPER) {
        gpu->mig_pending = mode;
        *status = NVML_ERROR_RESET_REQUIRED;
    } else if (has_instances(gpu) || has_processes(state, target.slot, NVML_WHOLE_GPU, NVML_WHOLE_GPU)) {
        *status = NVML_ERROR_IN_USE;
    } else {
        gpu->mig_current = gpu->mig_pending = mode;
        state->counters.mode_changes++;
    }
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    ANSWER(get_mode(state, device, current, pending));
}

EXPORT nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned mode, nvmlReturn_t *status)
{
    ANSWER(set_mode(state, device, mode, status));
}
