/**
 * Values of JSON that nobody vouches for, looked at one by one: a check takes a value and its name and returns it with its
 * type, or throws `BAD_IMAGE` with name, value and limit. Fields that nobody asked for are left out.
 */
import { Qcow2Error } from '../errors.js';

export type Check<T> = (value: unknown, name: string) => T;

const MAXIMUM_TEXT_CHARACTERS = 4096;

export function invalid(name: string, value: unknown, limit: number | string): Qcow2Error {
  const shown = JSON.stringify(value)?.slice(0, 40) ?? 'missing';
  return new Qcow2Error('BAD_IMAGE', `the machine state is not valid: ${name} is ${shown}, the limit is ${limit}`);
}

export const text: Check<string> = (value, name) => {
  if (typeof value === 'string' && value.length <= MAXIMUM_TEXT_CHARACTERS) return value;
  throw invalid(name, value, `${MAXIMUM_TEXT_CHARACTERS} characters`);
};

/** A whole number from 0 to `limit`, which is a safe integer. */
export function upTo(limit: number): Check<number> {
  return (value, name) => {
    if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= limit) return value as number;
    throw invalid(name, value, limit);
  };
}

export function orNull<T>(check: Check<T>): Check<T | null> {
  return (value, name) => (value === null ? null : check(value, name));
}

export function listOf<T>(check: Check<T>, limit: number): Check<T[]> {
  return (value, name) => {
    if (Array.isArray(value) && value.length <= limit) return value.map((entry) => check(entry, name));
    throw invalid(name, value, `a list of ${limit}`);
  };
}

export function objectOf<T extends object>(checks: { readonly [Name in keyof T]: Check<T[Name]> }): Check<T> {
  return (value, name) => {
    if (typeof value !== 'object' || value === null) throw invalid(name, value, 'an object');
    const fields = value as Record<string, unknown>;
    const names = Object.keys(checks) as (keyof T & string)[];
    return Object.fromEntries(names.map((field) => [field, checks[field](fields[field], `${name}.${field}`)])) as T;
  };
}
