-- How fast an attempt trains, as of its last epoch: for `status`, metrics and the workers' page.
ALTER TABLE nkat_attempt ADD COLUMN images_per_s float8;
