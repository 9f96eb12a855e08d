"""Recordings: the files that `record` writes and `plot` shows.

    `options`        the option types: a duration, a rotation
    `rows`           updates and gaps as columns, the same in all formats
    `decoder`        makes rows of updates, a batch at once
    `last`           the last row of each PV, with which the next file begins
    `intake`         the updates that wait to be written; bounded
    `target`         the file name, its format by its ending, and the rotated files
    `csv_file`       CSV
    `parquet_file`   Parquet: a folder of closed files
    `hdf5_file`      HDF5 in SWMR mode
    `run`            the run of the command
    `recorded`       the recorded history of one PV, for `plot`
    `reading`        the recorded history of PVs from a file of any format

The modules of the formats import pyarrow and h5py, so each is imported when its format is used.
"""
