/* GPU instances: create, destroy, enumerate. */
#include "simulator.h"

static nvmlReturn_t find_creatable(State *state, nvmlDevice_t device, unsigned profile_id, Target *target,
                                   const Profile **profile)
{
    nvmlReturn_t answer = find_gpu(state, device, target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (require_mig(target->gpu) != NVML_SUCCESS)
        return NVML_ERROR_NOT_SUPPORTED;
    if (!state->privileged)
        return NVML_ERROR_NO_PERMISSION;
    *profile = profile_by_id(card_of(target->gpu), profile_id);
    return *profile == NULL ? NVML_ERROR_INVALID_ARGUMENT : NVML_SUCCESS;
}

/* The first GPU instance cannot be made while something runs on the whole GPU (open-gpu-kernel-modules,
 * kmigmgr_ga100.c). */
static nvmlReturn_t create_at(State *state, Target *target, const Profile *profile, unsigned start,
                              nvmlGpuInstance_t *instance)
{
    if (!has_instances(target->gpu) && has_processes(state, target->slot, NVML_WHOLE_GPU, NVML_WHOLE_GPU))
        return NVML_ERROR_IN_USE;
    int id = fits(target->gpu, profile, start) ? free_instance_id(target->gpu, profile) : -1;
    if (id < 0)
        return NVML_ERROR_INSUFFICIENT_RESOURCES;
    target->gpu_instance = (unsigned)id;
    target->instance = &target->gpu->instances[id];
    if (!procfs_add(state, target))
        return NVML_ERROR_OPERATING_SYSTEM;
    uint32_t place = (uint32_t)(profile - card_of(target->gpu)->profiles);
    *target->instance = (GpuInstance){.used = 1, .profile = place, .start = start};
    state->counters.gpu_instances_created++;
    *instance = gpu_instance_handle(target->slot, target->gpu_instance);
    return NVML_SUCCESS;
}

static nvmlReturn_t create_with_placement(State *state, nvmlDevice_t device, unsigned profile_id,
                                          const nvmlPlacement_t *placement, nvmlGpuInstance_t *instance)
{
    Target target;
    const Profile *profile;
    if (placement == NULL || instance == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_creatable(state, device, profile_id, &target, &profile);
    if (answer != NVML_SUCCESS)
        return answer;
    if (placement->size != profile->size || !is_legal_start(profile, placement->start))
        return NVML_ERROR_INVALID_ARGUMENT;
    return create_at(state, &target, profile, placement->start, instance);
}

/* The driver's own choice: the highest start with room. With it the orders that NVIDIA's guide shows as
 * possible and impossible (ids 9,19,14,19 and 19,19,14,9) come out so. */
static nvmlReturn_t create_anywhere(State *state, nvmlDevice_t device, unsigned profile_id,
                                    nvmlGpuInstance_t *instance)
{
    Target target;
    const Profile *profile;
    if (instance == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_creatable(state, device, profile_id, &target, &profile);
    if (answer != NVML_SUCCESS)
        return answer;
    for (unsigned index = profile->start_count; index > 0; index--)
        if (fits(target.gpu, profile, profile->starts[index - 1]))
            return create_at(state, &target, profile, profile->starts[index - 1], instance);
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
}

static bool has_compute_instances(const GpuInstance *instance)
{
    for (unsigned id = 0; id < MAX_COMPUTE_INSTANCES; id++)
        if (instance->compute[id].used)
            return true;
    return false;
}

static nvmlReturn_t destroy(State *state, nvmlGpuInstance_t instance)
{
    Target target;
    nvmlReturn_t answer = find_gpu_instance(state, instance, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (!state->privileged)
        return NVML_ERROR_NO_PERMISSION;
    bool busy = has_processes(state, target.slot, (int)target.gpu_instance, NVML_WHOLE_GPU);
    state->counters.destroyed_in_use_attempts += busy;
    if (busy || has_compute_instances(target.instance))
        return NVML_ERROR_IN_USE;
    procfs_remove(state, &target);
    *target.instance = (GpuInstance){0};
    state->counters.gpu_instances_destroyed++;
    return NVML_SUCCESS;
}

/* With MIG mode off there are none, which is no refusal (read from an H200, tests/nvml_reading.py). */
static nvmlReturn_t list(State *state, nvmlDevice_t device, unsigned profile_id, nvmlGpuInstance_t *instances,
                         unsigned *count)
{
    Target target;
    if (instances == NULL || count == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_gpu(state, device, &target);
    if (answer == NVML_SUCCESS)
        answer = has_mig(target.gpu);
    if (answer != NVML_SUCCESS)
        return answer;
    const Card *card = card_of(target.gpu);
    const Profile *profile = profile_by_id(card, profile_id);
    if (profile == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    for (unsigned id = 0; id < MAX_GPU_INSTANCES; id++)
        if (target.gpu->instances[id].used && &card->profiles[target.gpu->instances[id].profile] == profile)
            instances[(*count)++] = gpu_instance_handle(target.slot, id);
    return NVML_SUCCESS;
}

static nvmlReturn_t by_id(State *state, nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instance)
{
    Target target;
    nvmlReturn_t answer = instance == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_gpu(state, device, &target);
    if (answer == NVML_SUCCESS)
        answer = has_mig(target.gpu);
    if (answer != NVML_SUCCESS)
        return answer;
    if (id >= MAX_GPU_INSTANCES || !target.gpu->instances[id].used)
        return NVML_ERROR_NOT_FOUND;
    *instance = gpu_instance_handle(target.slot, id);
    return NVML_SUCCESS;
}

static nvmlReturn_t info(State *state, nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *out)
{
    Target target;
    nvmlReturn_t answer = out == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_gpu_instance(state, instance, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    const Profile *profile = profile_of(&target);
    *out = (nvmlGpuInstanceInfo_t){
        .device = device_handle(target.slot),
        .id = target.gpu_instance,
        .profileId = profile->id,
        .placement = {target.instance->start, profile->size},
    };
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t device, unsigned profile_id,
                                                nvmlGpuInstance_t *instance)
{
    ANSWER(create_anywhere(state, device, profile_id, instance));
}

EXPORT nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, unsigned profile_id,
                                                             const nvmlPlacement_t *placement,
                                                             nvmlGpuInstance_t *instance)
{
    ANSWER(create_with_placement(state, device, profile_id, placement, instance));
}

EXPORT nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t instance)
{
    ANSWER(destroy(state, instance));
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned profile_id,
                                              nvmlGpuInstance_t *instances, unsigned *count)
{
    ANSWER(list(state, device, profile_id, instances, count));
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instance)
{
    ANSWER(by_id(state, device, id, instance));
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *out)
{
    ANSWER(info(state, instance, out));
}
