# SPDX-License-Identifier: Apache-2.0
"""What a page may take from elsewhere than the database: modules that watch one source each."""
