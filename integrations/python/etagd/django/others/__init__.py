# SPDX-License-Identifier: Apache-2.0
"""What a request reads through what others left or began: the settings of a session, the database that an alias means, a task."""
