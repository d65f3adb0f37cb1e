-- Ties the archive to what a Supabase database has beside it: users, roles and the requests that calls were made for.
-- Every `archive migrate` runs it, so it may be run again, and it does only what is not done yet.

-- The foreign key, where the requests are.
DO $$
BEGIN
  IF to_regclass('service_requests') IS NULL OR EXISTS (
    SELECT FROM pg_constraint
    WHERE conrelid = 'vapi_call_results'::regclass AND conname = 'vapi_call_results_service_request_id_fkey'
  ) THEN
    RETURN;
  END IF;
  UPDATE vapi_call_results SET service_request_id = NULL
  WHERE service_request_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM service_requests WHERE service_requests.id = service_request_id);
  ALTER TABLE vapi_call_results
    ADD CONSTRAINT vapi_call_results_service_request_id_fkey
    FOREIGN KEY (service_request_id) REFERENCES service_requests (id) ON DELETE SET NULL;
END;
$$;

-- Row-level security, where the database has users. Supabase lets everybody reach every table of this schema, so the
-- service's own tables are closed too.
DO $$
DECLARE
  table_name TEXT;
BEGIN
  IF to_regprocedure('auth.uid()') IS NULL THEN
    RETURN;
  END IF;
  FOREACH table_name IN ARRAY ARRAY[
    'vapi_call_results', 'vapi_call_deletions', 'vapi_forgotten_phones', 'vapi_archive_migrations'
  ] LOOP
    CONTINUE WHEN to_regclass(table_name) IS NULL;
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
    EXECUTE format('DROP POLICY IF EXISTS %I ON %I', 'Service role has full access to ' || table_name, table_name);
    EXECUTE format(
      'CREATE POLICY %I ON %I FOR ALL TO service_role USING (true) WITH CHECK (true)',
      'Service role has full access to ' || table_name, table_name
    );
  END LOOP;

  DROP POLICY IF EXISTS "Users can view their own call results" ON vapi_call_results;
  IF to_regclass('service_requests') IS NOT NULL THEN
    CREATE POLICY "Users can view their own call results" ON vapi_call_results FOR SELECT TO authenticated
    USING (
      EXISTS (
        SELECT FROM service_requests
        WHERE service_requests.id = vapi_call_results.service_request_id AND service_requests.user_id = auth.uid()
      )
    );
  END IF;
END;
$$;
