-- The archive of calls: one row per call. Plain SQL, for `archive migrate` and for Supabase's migrations: both may run.
--
-- Where it differs from the design it comes from:
--   status and ended_reason are text, because VAPI has over 600 reasons and the list grows; status is null while no
--   message has said; customer_phone is null in web calls; duration_minutes has no upper bound; service_request_id gets
--   its foreign key in supabase.sql, where that table may be; raw_webhook_payload is kept only on request.

CREATE TABLE IF NOT EXISTS vapi_call_results (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),

  -- VAPI identifiers
  call_id TEXT COLLATE "C" NOT NULL UNIQUE,
  assistant_id TEXT,
  phone_number_id TEXT,

  -- Call metadata
  customer_phone TEXT,
  status TEXT,
  ended_reason TEXT,

  -- Timing
  started_at TIMESTAMPTZ,
  ended_at TIMESTAMPTZ,
  duration_minutes NUMERIC,

  -- Call content
  transcript JSONB,
  messages JSONB,
  recording_url TEXT,

  -- Analysis results (from VAPI's AI analysis)
  analysis_summary TEXT,
  analysis_structured_data JSONB,
  analysis_success_evaluation TEXT,

  -- Provider context (from our system)
  provider_name TEXT,
  provider_phone TEXT,
  service_type TEXT,
  location TEXT,
  user_criteria TEXT,
  urgency TEXT,

  -- Request tracking
  service_request_id UUID,

  -- The webhook with the highest stamp, without secrets; only with ARCHIVE_RAW_PAYLOAD
  raw_webhook_payload JSONB,

  -- What the service makes of the call
  outcome TEXT,
  retry TEXT,
  customer_spoke BOOLEAN,
  analysis_reliable BOOLEAN,
  data_status TEXT NOT NULL,
  cost NUMERIC,
  structured_outputs JSONB,
  metadata JSONB NOT NULL DEFAULT '{}',
  forwarded_to TEXT,
  call_type TEXT,
  version BIGINT NOT NULL,

  -- What the service needs to merge later messages into the row
  fact_stamps JSONB NOT NULL DEFAULT '{}',
  ending SMALLINT NOT NULL DEFAULT 0,
  over_at TIMESTAMPTZ,
  has_transcript BOOLEAN NOT NULL DEFAULT FALSE,
  no_analysis BOOLEAN NOT NULL DEFAULT FALSE,
  deleted_at_vapi BOOLEAN NOT NULL DEFAULT FALSE,

  -- Timestamps: when the record began, and when what it shows last changed
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

-- Indexes for efficient querying
CREATE INDEX IF NOT EXISTS idx_vapi_call_results_call_id ON vapi_call_results (call_id);
CREATE INDEX IF NOT EXISTS idx_vapi_call_results_status ON vapi_call_results (status);
CREATE INDEX IF NOT EXISTS idx_vapi_call_results_customer_phone ON vapi_call_results (customer_phone);
CREATE INDEX IF NOT EXISTS idx_vapi_call_results_service_request_id ON vapi_call_results (service_request_id);
CREATE INDEX IF NOT EXISTS idx_vapi_call_results_created_at ON vapi_call_results (created_at DESC);
CREATE INDEX IF NOT EXISTS idx_vapi_call_results_ended_at ON vapi_call_results (ended_at DESC);

-- A page of a number's calls, and their count, without reading the table
CREATE INDEX IF NOT EXISTS idx_vapi_call_results_by_phone
  ON vapi_call_results (customer_phone, updated_at DESC, call_id DESC);

-- updated_at when somebody else changes a row. The service says when it writes: its own time comes from Redis's clock.
CREATE OR REPLACE FUNCTION set_vapi_call_results_updated_at() RETURNS TRIGGER
LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  IF current_setting('vapi_cache.writes', true) IS DISTINCT FROM 'on' THEN
    NEW.updated_at = NOW();
  END IF;
  RETURN NEW;
END;
$$;

DROP TRIGGER IF EXISTS update_vapi_call_results_updated_at ON vapi_call_results;
CREATE TRIGGER update_vapi_call_results_updated_at
  BEFORE UPDATE ON vapi_call_results
  FOR EACH ROW
  EXECUTE FUNCTION set_vapi_call_results_updated_at();

-- Deleted calls: what was stamped before the deletion never makes a row again.
CREATE TABLE IF NOT EXISTS vapi_call_deletions (
  call_id TEXT COLLATE "C" PRIMARY KEY,
  deleted_at TIMESTAMPTZ NOT NULL
);

-- Forgotten phone numbers, as SHA-256 in hex; kept for 30 days.
CREATE TABLE IF NOT EXISTS vapi_forgotten_phones (
  phone_sha256 TEXT COLLATE "C" PRIMARY KEY,
  forgotten_at TIMESTAMPTZ NOT NULL
);
