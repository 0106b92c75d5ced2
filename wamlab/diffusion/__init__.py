"""Schedules, objectives and samplers: functions of tensors and a generator, no state."""
