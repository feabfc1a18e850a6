/** What notices are made of. */
import { isQcow2Error } from 'qcow2-wasm/opfs';

export interface NoticeAction {
  readonly label: string;
  readonly run: () => void;
}

export interface Notice {
  readonly title: string;
  readonly what?: string;
  readonly advice: string;
  /** To dismiss it, unless given. */
  readonly actions?: readonly NoticeAction[];
  readonly calm?: boolean;
}

export const RELOAD: NoticeAction = { label: 'Try again', run: () => location.reload() };

export function messageOf(error: unknown): string {
  if (isQcow2Error(error)) return `${error.code}: ${error.message}`;
  return error instanceof Error ? error.message : String(error);
}
