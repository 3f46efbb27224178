"""The parts of the paper's loop that know neither models nor Gaussians: lift, cameras, prompts, schedules."""
