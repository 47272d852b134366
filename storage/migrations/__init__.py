"""Our own tables, one numbered SQL file a step; `storage.schema` applies what is missing."""
