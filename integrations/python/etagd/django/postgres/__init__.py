# SPDX-License-Identifier: Apache-2.0
"""What is PostgreSQL's alone."""
