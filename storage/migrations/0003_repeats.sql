-- Tickets beyond the budget: for trials that are run again once the budget is used up.

ALTER TABLE nkat_ticket ADD COLUMN repeats boolean NOT NULL DEFAULT false,
    ADD CHECK (NOT repeats OR trial_id IS NOT NULL);
