# SPDX-License-Identifier: Apache-2.0
"""What a write changes, by name, and how etagd learns of it."""
