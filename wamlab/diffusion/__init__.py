"""Schedules, objectives, samplers and flow matching: functions of tensors and a generator, no state."""
