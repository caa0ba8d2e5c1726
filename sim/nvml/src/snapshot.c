/* Reading the whole state for tests and demos: counters, and each GPU with its slices. */
#include <stdio.h>
#include <string.h>

#include "simulator.h"

static unsigned count_processes(const State *state, const Target *target)
{
    unsigned count = 0;
    for (unsigned index = 0; index < MAX_PROCESSES; index++) {
        const Process *process = &state->processes[index];
        if (!process->used || process->gpu != target->slot)
            continue;
        bool in_slice = process->gpu_instance == target->gpu_instance &&
                        process->compute_instance == target->compute_instance;
        count += target->instance == NULL || in_slice;
    }
    return count;
}

static nvmlSimSlice describe_slice(const State *state, const Target *target)
{
    const Profile *profile = profile_of(target);
    nvmlSimSlice slice = {
        .gpu_instance = target->gpu_instance,
        .compute_instance = target->compute == NULL ? (uint32_t)NVML_WHOLE_GPU : target->compute_instance,
        .profile_id = profile->id,
        .start = target->instance->start,
        .size = profile->size,
        .compute_slices = target->compute == NULL ? 0 : target->compute->slices,
        .gpu_slices = profile->compute_slices,
        .processes = target->compute == NULL ? 0 : count_processes(state, target),
    };
    snprintf(slice.profile, sizeof slice.profile, "%s", profile->name);
    if (target->compute != NULL)
        mig_uuid(target->gpu, target->gpu_instance, target->compute_instance, slice.uuid);
    return slice;
}

/* One entry a compute instance, and one for a GPU instance that has none. */
static void describe_instance(const State *state, Target target, nvmlSimGpu *out)
{
    unsigned before = out->slice_count;
    for (unsigned id = 0; id < MAX_COMPUTE_INSTANCES; id++) {
        target.compute = &target.instance->compute[id];
        target.compute_instance = id;
        if (target.compute->used && out->slice_count < NVMLSIM_SLICES)
            out->slices[out->slice_count++] = describe_slice(state, &target);
    }
    target.compute = NULL;
    if (out->slice_count == before && out->slice_count < NVMLSIM_SLICES)
        out->slices[out->slice_count++] = describe_slice(state, &target);
}

static void describe_gpu(State *state, unsigned slot, unsigned index, nvmlSimGpu *out)
{
    Target target = {.gpu = &state->gpus[slot], .slot = slot};
    const Gpu *gpu = target.gpu;
    *out = (nvmlSimGpu){
        .index = index,
        .minor = gpu->minor,
        .mig_current = gpu->mig_current,
        .mig_pending = gpu->mig_pending,
        .lost = gpu->lost,
        .processes = count_processes(state, &target),
    };
    snprintf(out->card, sizeof out->card, "%s", card_of(gpu)->key);
    snprintf(out->uuid, sizeof out->uuid, "%s", gpu->uuid);
    snprintf(out->pci_bus_id, sizeof out->pci_bus_id, "%08X:%02X:%02X.%1X", gpu->domain, gpu->bus & 0xff,
             gpu->device & 0xff, gpu->function & 0xf);
    for (unsigned id = 0; id < MAX_GPU_INSTANCES; id++) {
        target.instance = &target.gpu->instances[id];
        target.gpu_instance = id;
        if (target.instance->used)
            describe_instance(state, target, out);
    }
}

EXPORT const char *nvmlSimCardKey(unsigned index)
{
    return index < sim_card_count ? sim_cards[index].key : NULL;
}

EXPORT int nvmlSimReadCounters(nvmlSimHandle *handle, nvmlSimCounters *counters)
{
    if (handle == NULL || counters == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    process_lock();
    nvmlReturn_t answer = file_lock(handle);
    if (answer == NVML_SUCCESS) {
        *counters = handle->state->counters;
        file_unlock(handle);
    }
    process_unlock();
    return answer;
}

EXPORT int nvmlSimReadGpu(nvmlSimHandle *handle, unsigned index, nvmlSimGpu *gpu)
{
    if (handle == NULL || gpu == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    process_lock();
    nvmlReturn_t answer = file_lock(handle);
    if (answer == NVML_SUCCESS) {
        unsigned slot = slot_of_index(handle->state, index);
        answer = slot < handle->state->gpu_count ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
        if (answer == NVML_SUCCESS)
            describe_gpu(handle->state, slot, index, gpu);
        file_unlock(handle);
    }
    process_unlock();
    return answer;
}
